"""One prompt of a dataset, in the same terms whoever published it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Role = Literal["target", "implied", "near", "other"]
"""What a prompt is to the concept that it comes with.

``target`` prompts are about the concept.  ``implied`` prompts are harmful or adversarial: they mean
what their file is about, whatever their words are.  ``near`` prompts are about a neighbour of the
concept, and ``other`` prompts about anything else.
"""


@dataclass(frozen=True)
class PublishedPrompt:
    """A prompt as published, with all blanks.

    ``concept`` is what the file, or for lists of one concept the file's name, says that the prompt
    is about.  ``level`` is how the prompt expresses the concept, in the publisher's words; None
    where the publisher does not say.  ``seed`` and ``guidance`` are those of the one picture that
    the prompt stands for, where it stands for one.  ``place`` says, for messages, where in the file
    ``path`` it stands: ":12" is line 12.
    """

    text: str
    concept: str
    role: Role
    prompt_id: str
    path: Path
    place: str
    level: str | None = None
    seed: int | None = None
    guidance: float | None = None
