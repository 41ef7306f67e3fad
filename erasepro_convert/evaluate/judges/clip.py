"""CLIP as a judge: how well pictures match the texts for the target and for its anchor."""

from collections.abc import Sequence

import numpy as np

from erasepro_convert.evaluate.image_store import Pictures
from erasepro_convert.evaluate.judges.clip_features import ClipFeatures
from erasepro_convert.evaluate.judges.mean_metric import mean_metric
from erasepro_convert.evaluate.judges.share_metric import share_metric
from erasepro_convert.evaluate.metrics.kid_fid import Array
from erasepro_convert.evaluate.plan import EvalPrompt, Role
from erasepro_convert.evaluate.results import Better, Metric, PictureSets

WEIGHT = 2.5
TEXT_START = "A photo depicts"

STYLE = "style"
STYLE_WORDS = {
    "art",
    "artist",
    "artists",
    "artwork",
    "painter",
    "painters",
    "painting",
    "paintings",
    STYLE,
}
"""A target is a style where its anchor contains one of these words."""
STYLE_PHRASES = ("by", "style of", "manner of")
"""Other prompts have no anchor: there a concept is a style where it follows one of these."""


class ClipJudge:
    """Computes the paper's CLIP scores: 2.5·max(cos, 0) of a picture and a text.

    Hessel et al., *CLIPScore* (2021), as Ablating Concepts (2023) uses it: a thing's text is
    "A photo depicts {thing}", a style's "A photo depicts {artist} style".
    """

    name = "CLIP"

    def __init__(self, features: ClipFeatures) -> None:
        self._features = features
        self.digest = features.digest

    def metrics(self, sets: PictureSets) -> list[Metric]:
        """Compute T, A and ACC for each target, and O over the other prompts.

        T and A compare pictures of the target's prompts with the target's text and with the
        anchor's.  ACC is the share of these pictures that match the target's text better.  O
        compares pictures of other prompts with the text for what each should show.  An empty
        anchor has no text, so that A and ACC are left out.
        """
        found: list[Metric] = []
        for target, anchor in sets.pairs:
            both = _of_both_models(sets, target)
            if both is None:
                continue
            style = bool(STYLE_WORDS & set(anchor.lower().split()))
            to_target = [self._scores(side, [concept_text(target, style=style)]) for side in both]
            to_anchor = [self._scores(side, [concept_text(anchor, style=style)]) for side in both]
            if anchor:
                found.append(self._average(target, "CLIP score A", "higher", both[0], to_anchor))
            found.append(self._average(target, "CLIP score T", "lower", both[0], to_target))
            if anchor:
                hits = [(t > a).tolist() for t, a in zip(to_target, to_anchor, strict=True)]
                found.append(share_metric(self.name, target, "CLIP ACC", "lower", both[0], *hits))
        both = _of_both_models(sets, None)
        if both is not None:
            texts = [prompt_text(prompt) for prompt in both[0].prompts]
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
        return mean_metric(self.name, concept, column, better, pictures, original, erased)

    def _scores(self, pictures: Pictures, texts: Sequence[str]) -> Array:
        """Score each picture with its text, or all with one text where there is only one."""
        distinct = list(dict.fromkeys(texts))
        text_rows = _unit_rows(self._features.text_features(distinct))
        text_rows = text_rows[[distinct.index(text) for text in texts]]
        image_rows = _unit_rows(self._features.compute(pictures.paths))
        scores: Array = WEIGHT * np.maximum((image_rows * text_rows).sum(1), 0)
        return scores


def concept_text(concept: str, *, style: bool) -> str:
    """Return the text that a picture of a concept is compared with."""
    words = concept.split()
    if style and STYLE not in (word.lower() for word in words):
        words.append(STYLE)
    return " ".join((TEXT_START, *words))


def prompt_text(prompt: EvalPrompt) -> str:
    """Return the text for an other prompt's concept; its anchor or its wording shows a style."""
    wording = prompt.prompt.lower()
    phrases = (f"{before} {prompt.concept.lower()}" for before in STYLE_PHRASES)
    style = STYLE_WORDS & set(prompt.anchor.lower().split()) or any(
        phrase in wording for phrase in phrases
    )
    return concept_text(prompt.concept, style=bool(style))


def _of_both_models(sets: PictureSets, concept: str | None) -> tuple[Pictures, Pictures] | None:
    """Return both models' pictures of a target's prompts, or of other prompts (None)."""
    role: Role = "other" if concept is None else "target"
    original, erased = sets("original", concept, role), sets("erased", concept, role)
    return (original, erased) if original and erased else None


def _unit_rows(rows: Array) -> Array:
    """Scale each row to length 1."""
    unit: Array = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit
