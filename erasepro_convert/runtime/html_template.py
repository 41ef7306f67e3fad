"""Pages for people: the package's templates, filled in; what is put into them is escaped."""

from jinja2 import Environment, PackageLoader, StrictUndefined


def fill(template: str, **values: object) -> str:
    """The page; ``template`` is a path in the package, and so is what it includes."""
    environment = Environment(
        loader=PackageLoader("erasepro_convert", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(values)
