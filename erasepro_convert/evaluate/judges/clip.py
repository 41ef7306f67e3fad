"""CLIP as a judge: how well pictures go with the words for the target and for its anchor."""

from collections.abc import Sequence

import numpy as np

from erasepro_convert.evaluate.image_store import Pictures
from erasepro_convert.evaluate.judges.clip_features import ClipFeatures
from erasepro_convert.evaluate.judges.scores import average
from erasepro_convert.evaluate.judges.shares import share
from erasepro_convert.evaluate.metrics.kid_fid import Array
from erasepro_convert.evaluate.plan import EvalPrompt, Role
from erasepro_convert.evaluate.results import Better, Metric, Sets

WEIGHT = 2.5
BEGINNING = "A photo depicts"

STYLE = "style"
ART = {"art", "artist", "artists", "artwork", "painter", "painters", "painting", "paintings", STYLE}
"""A target whose anchor has one of these words is a style."""
SAID_OF_STYLES = ("by", "style of", "manner of")
"""Before the concept of another prompt, which has no anchor."""


class ClipJudge:
    """The paper's CLIP scores: 2.5·max(cos, 0) of a picture and a text.

    Hessel et al., *CLIPScore* (2021), as Ablating Concepts (2023) uses it: a thing's text is
    "A photo depicts {thing}", a style's "A photo depicts {artist} style".
    """

    name = "CLIP"

    def __init__(self, features: ClipFeatures) -> None:
        self._features = features
        self.digest = features.digest

    def figures(self, sets: Sets) -> list[Metric]:
        """T and A: pictures of the target's prompts with the text for it, and for its anchor.

        ACC is the share of these that go better with the target's; O are pictures of others, with
        the text for what each was to show.  An empty anchor has no text, and so neither A nor ACC.
        """
        found: list[Metric] = []
        for target, anchor in sets.pairs:
            both = _both(sets, target)
            if both is None:
                continue
            style = bool(ART & set(anchor.lower().split()))
            targets = [self._scores(side, [text(target, style=style)]) for side in both]
            of_anchor = [self._scores(side, [text(anchor, style=style)]) for side in both]
            if anchor:
                found.append(self._average(target, "CLIP score A", "higher", both[0], of_anchor))
            found.append(self._average(target, "CLIP score T", "lower", both[0], targets))
            if anchor:
                hits = [(t > a).tolist() for t, a in zip(targets, of_anchor, strict=True)]
                found.append(share(self.name, target, "CLIP ACC", "lower", both[0], *hits))
        both = _both(sets, None)
        if both is not None:
            texts = [text_of(asked) for asked in both[0].asked]
            others = [self._scores(side, texts) for side in both]
            found.append(self._average(None, "CLIP score O", "higher", both[0], others))
        return found

    def _average(
        self,
        concept: str | None,
        column: str,
        better: Better,
        pictures: Pictures,
        scores: Sequence[Array],
    ) -> Metric:
        original, erased = (side.tolist() for side in scores)
        return average(self.name, concept, column, better, pictures, original, erased)

    def _scores(self, pictures: Pictures, texts: Sequence[str]) -> Array:
        """Of each picture with its text, or with the one text that there is."""
        distinct = list(dict.fromkeys(texts))
        read = _directions(self._features.read(distinct))
        said = read[[distinct.index(text) for text in texts]]
        seen = _directions(self._features.of(pictures.paths))
        scores: Array = WEIGHT * np.maximum((seen * said).sum(1), 0)
        return scores


def text(concept: str, *, style: bool) -> str:
    """What a picture of a concept is compared with."""
    words = concept.split()
    if style and STYLE not in (word.lower() for word in words):
        words.append(STYLE)
    return " ".join((BEGINNING, *words))


def text_of(asked: EvalPrompt) -> str:
    """The text for another prompt's concept; that it is a style is told by anchor or prompt."""
    prompt = asked.prompt.lower()
    named = (f"{before} {asked.concept.lower()}" for before in SAID_OF_STYLES)
    style = ART & set(asked.anchor.lower().split()) or any(words in prompt for words in named)
    return text(asked.concept, style=bool(style))


def _both(sets: Sets, concept: str | None) -> tuple[Pictures, Pictures] | None:
    """Both models' pictures of a target's prompts, or of others (None)."""
    role: Role = "other" if concept is None else "target"
    original, erased = sets("original", concept, role), sets("erased", concept, role)
    return (original, erased) if original and erased else None


def _directions(rows: Array) -> Array:
    """The same at length 1."""
    unit: Array = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit
