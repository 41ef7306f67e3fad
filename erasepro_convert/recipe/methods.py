"""The registry of methods: what each one is, which recipe keys it has, and what its defaults are.

A new method is a row here and a function: in ``erase.methods`` where it is solved, in
``train.methods`` where it is trained.  Recipe checks, ``compare``, ``check`` and the table in
``docs/recipe.md`` read these rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Key = Literal[
    "layers.text_encoder",
    "tolerance",
    "retain.weight",
    "training",
    "training.guidance",
]
"""Recipe keys that not every method has."""


@dataclass(frozen=True)
class Method:
    """One method.

    ``edits`` names the matrices in the words of the documentation.  ``defaults`` are the values in
    which the method differs from the general defaults, spelt as a recipe spells them; each lies in
    a section that ``with_defaults`` completes.  ``templates`` are the prompts of a concept without
    prompts of its own (None: the general ones).  ``values_only`` methods leave the keys of the
    cross-attention as they are.
    """

    name: str
    title: str
    paper: str
    edits: str
    keys: frozenset[Key]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    templates: tuple[str, ...] | None = None
    values_only: bool = False

    @property
    def is_trained(self) -> bool:
        """Whether gradient steps find the weights; otherwise a closed form gives them."""
        return "training" in self.keys

    def with_defaults(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """A recipe's data, completed with the method's own defaults.

        Sections that the method has are completed key by key.  A section that it lacks is left as
        the recipe has it, so that the checks refuse it.  Values of another type than a section's
        are left for the checks, too.
        """
        full = {**self.defaults, **data}
        for section in ("layers", "retain", "limits", "training"):
            defaults, said = self.defaults.get(section), full.get(section)
            if defaults and said is None and section == "training":
                full[section] = dict(defaults)
            elif defaults and isinstance(said, Mapping):
                full[section] = {**defaults, **said}
        concepts = full.get("concepts")
        if self.templates and isinstance(concepts, list | tuple):
            templates = {"prompts": list(self.templates)}
            full["concepts"] = [
                {**templates, **concept} if isinstance(concept, Mapping) else concept
                for concept in concepts
            ]
        return full


_ERASEPRO = "Chen et al. 2025"
_ERASEPRO_KEYS: frozenset[Key] = frozenset({"layers.text_encoder", "tolerance", "retain.weight"})
_UNET_ALONE = {
    "layers": {"text_encoder": "none"},
    "tokens": "prompt",
    "text_encoders": ["edited"],
    "tolerance": 0,
}
_LAST_WORD = {**_UNET_ALONE, "tokens": "last"}
_BARE_NAME = ("{}",)
_NOTHING_RETAINED = {**_UNET_ALONE, "retain": {"weight": 0}}
# Leak looks at keys and values alone, which does not tell what training made of a target.
_TRAINED = {**_NOTHING_RETAINED, "limits": {"leak": None}}
_ESD = {"steps": 200, "learning_rate": 5e-5, "batch": 1, "guidance": 1.0}

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(
            name="erasepro",
            title="ErasePro (Algorithm 1)",
            paper=_ERASEPRO,
            edits="text encoder's q, k, v; cross-attention's k, v",
            keys=_ERASEPRO_KEYS,
        ),
        Method(
            name="erasepro-modified",
            title="ErasePro-modified (Algorithm 2)",
            paper=_ERASEPRO,
            edits="text encoder's q, k, v; cross-attention's k, v",
            keys=_ERASEPRO_KEYS,
        ),
        Method(
            name="difference-projector",
            title="Difference projector",
            paper="this project",
            edits="cross-attention's k, v",
            keys=frozenset({"tolerance", "retain.weight"}),
            defaults={"layers": {"text_encoder": "none"}},
        ),
        Method(
            name="uce",
            title="Unified Concept Editing",
            paper="Gandikota et al. 2024",
            edits="cross-attention's k, v",
            keys=frozenset(),
            defaults=_NOTHING_RETAINED,
        ),
        Method(
            name="null-space",
            title="UCE in the null space of what is retained",
            paper="Li et al. 2026 (SPEED)",
            edits="cross-attention's k, v",
            keys=frozenset({"retain.weight"}),
            defaults={**_UNET_ALONE, "retain": {"weight": 10}},
        ),
        Method(
            name="speed",
            title="SPEED",
            paper="Li et al. 2026",
            edits="cross-attention's v",
            keys=frozenset({"retain.weight"}),
            defaults={**_LAST_WORD, "retain": {"weight": 10}},
            templates=_BARE_NAME,
            values_only=True,
        ),
        Method(
            name="oce",
            title="Orthogonal Concept Erasure",
            paper="OCE, ICML 2026",
            edits="cross-attention's v",
            keys=frozenset({"retain.weight"}),
            defaults={**_LAST_WORD, "retain": {"weight": 1}},
            templates=_BARE_NAME,
            values_only=True,
        ),
        Method(
            name="double-projections",
            title="Double Projections",
            paper="Zhang et al. 2026",
            edits="cross-attention's k, v",
            keys=frozenset({"retain.weight"}),
            defaults={**_LAST_WORD, "retain": {"weight": 10}},
            templates=_BARE_NAME,
        ),
        Method(
            name="cure",
            title="CURE's Spectral Eraser",
            paper="Biswas et al. 2025",
            edits="cross-attention's k, v",
            keys=frozenset({"retain.weight"}),
            defaults={**_UNET_ALONE, "retain": {"weight": 2}},
            templates=_BARE_NAME,
        ),
        Method(
            name="trce",
            title="TRCE, first stage",
            paper="Chen et al. 2025 (TRCE)",
            edits="cross-attention's k, v",
            keys=frozenset({"retain.weight"}),
            defaults={**_UNET_ALONE, "tokens": "eos", "retain": {"weight": 0.01}},
        ),
        Method(
            name="esd-x",
            title="Erased Stable Diffusion, cross-attention",
            paper="Gandikota et al. 2023",
            edits="cross-attention",
            keys=frozenset({"training", "training.guidance"}),
            defaults={**_TRAINED, "training": {"parameters": "cross-attention", **_ESD}},
        ),
        Method(
            name="esd-u",
            title="Erased Stable Diffusion, all but the cross-attention",
            paper="Gandikota et al. 2023",
            edits="U-Net without cross-attention",
            keys=frozenset({"training", "training.guidance"}),
            defaults={**_TRAINED, "training": {"parameters": "not-cross-attention", **_ESD}},
        ),
        Method(
            name="ac",
            title="Ablating Concepts, model-based",
            paper="Kumari et al. 2023",
            edits="cross-attention's k, v",
            keys=frozenset({"training"}),
            # App. A.2.  AC's published code multiplies its rate of 2e-6 by the batch of 4; here
            # the rate is what the optimiser gets.
            defaults={
                **_TRAINED,
                "training": {
                    "parameters": "cross-attention-kv",
                    "steps": 100,
                    "learning_rate": 8e-6,
                    "batch": 4,
                },
            },
        ),
    )
}
"""Every method by the name that a recipe gives it.

Training defaults are those of ErasePro's App. A.2, for SD1.x.
"""

SOLVED = tuple(name for name, method in METHODS.items() if not method.is_trained)
TRAINED = tuple(name for name, method in METHODS.items() if method.is_trained)
