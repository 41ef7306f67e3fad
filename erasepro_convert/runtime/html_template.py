"""HTML pages made from the package's templates; values put into them are escaped."""

from collections.abc import Callable

from jinja2 import Environment, PackageLoader, StrictUndefined


def fill_template(
    template: str, finalize: Callable[[object], object] | None = None, /, **values: object
) -> str:
    """Render the template at a path in the package; its includes are such paths too.

    ``finalize`` is applied to each value before it is escaped.
    """
    environment = Environment(
        loader=PackageLoader("erasepro_convert", "."),
        autoescape=True,
        finalize=finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(values)
