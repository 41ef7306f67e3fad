"""The recipe section ``training``: how a gradient method is trained.

Its defaults are the method's own and stand in ``recipe.methods``.
"""

from typing import Annotated, Literal

from pydantic import Field, StrictInt

from erasepro_convert.recipe.fields import NotNegative, Positive, Section

Parameters = Literal["cross-attention-kv", "cross-attention", "not-cross-attention", "attention"]


class Training(Section):
    """Settings of the methods that are trained."""

    steps: Annotated[StrictInt, Field(ge=1)]
    """Steps of gradient descent."""
    learning_rate: Positive
    """The learning rate, of Adam for ESD and of AdamW for AC."""
    batch: Annotated[StrictInt, Field(ge=1)]
    """Latents that a step looks at."""
    parameters: Parameters
    """Which of the U-Net's tensors are trained; attention is self-attention and cross-attention."""
    guidance: NotNegative | None = None
    """ESD's η: how far away from the target's noise prediction the goal lies.  AC has none."""
    seed: Annotated[StrictInt, Field(ge=0)] = 0
    """The seed of all random numbers."""
