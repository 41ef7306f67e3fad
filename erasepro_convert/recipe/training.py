"""How a gradient method is trained: its papers' settings, for SD1.x, where nothing is said."""

from typing import Annotated, Any, Literal

from pydantic import Field, StrictInt

from erasepro_convert.recipe.fields import NotNegative, Positive, Section

Parameters = Literal["cross-attention-kv", "cross-attention", "not-cross-attention", "attention"]
"""Which of the U-Net's tensors are trained; attention is self-attention and cross-attention."""

DEFAULTS: dict[str, dict[str, Any]] = {
    "esd-x": {"parameters": "cross-attention", "steps": 200, "learning_rate": 5e-5, "batch": 1},
    "esd-u": {"parameters": "not-cross-attention", "steps": 200, "learning_rate": 5e-5, "batch": 1},
    "ac": {"parameters": "cross-attention-kv", "steps": 100, "learning_rate": 8e-6, "batch": 4},
}
"""Gandikota et al., *Erasing Concepts from Diffusion Models* (2023), and Kumari et al., *Ablating
Concepts* (2023), as App. A.2 has them.  AC's published code multiplies its rate of 2e-6 by the
batch of 4; here the rate is what the optimiser gets."""

GUIDANCE = 1.0
"""ESD's η."""


class Training(Section):
    """Of ``esd-x``, ``esd-u`` and ``ac``."""

    steps: Annotated[StrictInt, Field(ge=1)]
    learning_rate: Positive
    batch: Annotated[StrictInt, Field(ge=1)]
    """Latents that a step looks at."""
    parameters: Parameters
    guidance: NotNegative | None = None
    """ESD's η: how far away from the target's noise prediction the goal lies.  AC has none."""
    seed: Annotated[StrictInt, Field(ge=0)] = 0


def filled(method: str, data: dict[str, Any]) -> dict[str, Any]:
    """A recipe of a gradient method with what these methods have by default.

    They have no use for what the closed forms trade off, and the text side alone, which leak
    measures, does not say what becomes of a target.
    """
    training = data.get("training")
    if training is None:
        training = {}
    if isinstance(training, dict):
        own = {"guidance": GUIDANCE} if method != "ac" else {}
        training = DEFAULTS[method] | own | training
    limits = data.get("limits", {})
    layers = data.get("layers", {})
    return {
        "tolerance": 0,
        "text_encoders": ["edited"],
        "retain": {"weight": 0},
        **data,
        "training": training,
        "limits": {"leak": None, **limits} if isinstance(limits, dict) else limits,
        "layers": {"text_encoder": "none", **layers} if isinstance(layers, dict) else layers,
    }
