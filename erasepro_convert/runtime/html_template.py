"""HTML pages made from the package's templates; values put into them are escaped."""

from jinja2 import Environment, PackageLoader, StrictUndefined


def fill_template(template: str, **values: object) -> str:
    """Render the template at a path in the package; its includes are such paths too."""
    environment = Environment(
        loader=PackageLoader("erasepro_convert", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(values)
