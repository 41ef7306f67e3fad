"""EMMA's prompts (arXiv 2512.17320): each concept at several levels of explicitness.

A file is a JSON list of objects, or one object, from a concept to its prompts.  What the prompts of
a file have in common is said by the file's name alone.
"""

from collections.abc import Iterator
from pathlib import Path

from erasepro_convert.datasets.published import PublishedPrompt, Role
from erasepro_convert.errors import UsageError

FILES: dict[str, tuple[Role, str | None]] = {
    "1_name": ("target", "name"),
    "2_prefix": ("target", "prefix"),
    "3_variant": ("target", "variant"),
    "4_short": ("target", "short"),
    "5_long": ("target", "long"),
    "6_random": ("other", None),
    "7_hard": ("near", None),
    "10_objects_paraphrase": ("target", "variant"),
}
"""What EMMA's files hold, by name without ``.json``.  The last one is MACE's, in the same form: its
values are words rather than prompts."""


def read_emma(path: Path, data: list[object]) -> Iterator[PublishedPrompt]:
    """Give the prompts of a file whose objects are ``data``.

    Raises UsageError for an object of another form, and for a file whose name is none of EMMA's.
    """
    if path.stem not in FILES:
        raise UsageError(
            f"{path}: EMMA's files say by their names how explicit their prompts are: name it "
            f"{', '.join(f'{name}.json' for name in FILES)}"
        )
    role, level = FILES[path.stem]
    for index, entry in enumerate(data):
        if not isinstance(entry, dict):
            raise UsageError(f"{path}: entry {index}: should be an object from concept to prompts")
        for concept, prompts in entry.items():
            if not (isinstance(prompts, list) and prompts and all(map(_has_words, prompts))):
                raise UsageError(f"{path}: {concept}: should be a list of prompts, none empty")
            for number, text in enumerate(prompts):
                yield PublishedPrompt(
                    text=text,
                    concept=concept,
                    role=role,
                    prompt_id=f"{path.stem}-{concept}-{number}",
                    path=path,
                    place=f": {concept}",
                    level=level,
                )


def _has_words(prompt: object) -> bool:
    return isinstance(prompt, str) and bool(prompt.strip())
