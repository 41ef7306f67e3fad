"""What a manifest says, in sentences: what held, and what did not."""

from collections.abc import Iterator
from dataclasses import dataclass

import erasepro_convert as erasepro

FEEDS = {"edited": "", "stock": " with the original's text encoder"}


@dataclass(frozen=True)
class Check:
    """A measure beside its limit; ``held`` is None where there is no limit."""

    held: bool | None
    what: str


def checks(manifest: erasepro.Manifest) -> Iterator[Check]:
    """Give the worst leak and the worst drift with each text encoder."""
    limits = manifest.recipe.limits
    for encoder, words in FEEDS.items():
        for name, measures, limit in (
            ("is left of the targets", manifest.probe.leak, limits.leak),
            ("is how far other prompts moved", manifest.probe.drift, limits.drift),
        ):
            means = [m.mean for m in measures if m.feed.text_encoder == encoder]
            if not means:
                continue
            of_limit = "there is no limit" if limit is None else f"the limit is {limit:.0%}"
            held = None if limit is None else max(means) <= limit
            yield Check(held, f"{max(means):.0%} {name}{words} ({of_limit})")
