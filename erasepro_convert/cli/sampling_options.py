"""The sampling options of commands that draw pictures with settings from the command line."""

from math import isfinite
from typing import Any

import click

from erasepro_convert.runtime.printable import quoted


class Scale(click.FloatRange):
    """A finite number that is not negative."""

    def __init__(self) -> None:
        """Allow numbers from 0 on."""
        super().__init__(min=0)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Read the number, and refuse NaN and infinity."""
        number: float = super().convert(value, param, ctx)
        if not isfinite(number):
            self.fail(f"{quoted(str(value))} is not a finite number", param, ctx)
        return number


seeds_option = click.option(
    "--seeds", type=click.IntRange(1), default=2, show_default=True, help="Pictures of each prompt."
)
steps_option = click.option(
    "--steps", type=click.IntRange(1, 1000), help="Denoising steps.  [default: the model's]"
)
guidance_option = click.option(
    "--guidance", type=Scale(), help="Guidance scale.  [default: the model's]"
)
