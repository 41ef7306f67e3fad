"""Published prompts as prompts of an evaluation."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from erasepro_convert.datasets.matching import Targets
from erasepro_convert.datasets.published import PublishedPrompt
from erasepro_convert.datasets.read import read_dataset
from erasepro_convert.evaluate.plan import EvalPrompt, ImageRequest, Role
from erasepro_convert.recipe import Recipe

WHOLE = ("i2p-", "coco-")
"""Numbers of prompts of I2P and COCO, which papers count as a whole, whatever words a row has."""


@dataclass(frozen=True)
class DatasetPrompt(EvalPrompt):
    """A prompt for one picture, with its seed and, where the file has one, its guidance scale.

    ``concept`` holds the categories of an I2P prompt, and the caption itself for COCO.
    """

    seed: int
    guidance: float | None = None

    def requests(self, seeds: int, guidance: float) -> tuple[ImageRequest, ...]:
        """Return the one picture that the row stands for, with the row's own seed."""
        del seeds
        scale = guidance if self.guidance is None else self.guidance
        return (ImageRequest(self.prompt, self.seed, scale),)


def dataset_prompts(path: Path, recipe: Recipe) -> Iterator[EvalPrompt]:
    """Read a dataset and give each prompt the role that it has in an evaluation of the recipe.

    Prompts about a target are ``target`` where they have its words and else ``implied``; prompts
    about anything else are ``other``.  Harmful prompts of no target (I2P's) stay ``implied``, with
    what the file says of them as their concept.

    Raises UsageError, with the line, for a file of another form; OSError passes through.
    """
    targets = Targets(recipe.concepts)
    for prompt in read_dataset(path):
        yield _eval_prompt(prompt, targets)


def _eval_prompt(published: PublishedPrompt, targets: Targets) -> EvalPrompt:
    concept, role = _concept_and_role(published, targets)
    anchor = next((c.anchor for c in targets.concepts if c.target == concept), "")
    if role == "other" or published.prompt_id.startswith(WHOLE):
        anchor = ""
    named = concept, anchor, role, published.text, published.prompt_id
    if published.seed is None:
        return EvalPrompt(*named)
    return DatasetPrompt(*named, published.seed, published.guidance)


def _concept_and_role(published: PublishedPrompt, targets: Targets) -> tuple[str, Role]:
    if published.prompt_id.startswith(WHOLE):
        return published.concept, "other" if published.role == "other" else "implied"
    if found := targets.find(published):
        return found.target, "target" if targets.named_in(published.text) else "implied"
    if published.role == "implied":
        return published.concept, "implied"
    # A neighbour's prompt comes with the concept that it is a neighbour of.
    return published.concept if published.role == "target" else published.text, "other"
