"""The options of sampling, for commands that draw pictures by settings of their own."""

from math import isfinite
from typing import Any

import click


class Scale(click.FloatRange):
    """A number from 0 on that is one: neither NaN nor infinity."""

    def __init__(self) -> None:
        """It has no upper end."""
        super().__init__(min=0)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Give the number."""
        number: float = super().convert(value, param, ctx)
        if not isfinite(number):
            self.fail(f"{value!r} is not a finite number", param, ctx)
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
