"""HUB's prompts (ICCV 2025): one file for each concept, which the file's name says.

``target_image`` and ``attack_robustness`` have no columns although they are called CSV: a line is a
prompt, with its commas and quotes.  Only the folder's name tells what they are.
"""

from collections.abc import Iterator
from pathlib import Path

from erasepro_convert.datasets.cells import words
from erasepro_convert.datasets.csv_reader import CsvReader, read_lines
from erasepro_convert.datasets.published import PublishedPrompt, Role
from erasepro_convert.errors import UsageError

LANGUAGES = ("Original", "Spanish", "French", "German", "Italian", "Portuguese")

NOUNS = 100
"""The neighbours that HUB draws of each concept: the first ones of the file, nearest first."""

FOLDERS: dict[str, tuple[Role, str | None]] = {
    "target_image": ("target", None),
    "attack_robustness": ("implied", "attack"),
}
"""Folders of files in which a line is a prompt."""


def read_hub_lines(path: Path, folder: str) -> Iterator[PublishedPrompt]:
    """Give the lines of a file in one of ``FOLDERS``."""
    role, level = FOLDERS[folder]
    for number, line in enumerate(read_lines(path), 1):
        if text := line.strip():
            yield _prompt(path, text, role, number, f":{number}", level)


def read_hub_languages(table: CsvReader) -> Iterator[PublishedPrompt]:
    """Give each prompt of ``multilingual_robustness`` in each language; the original is English."""
    for number, row in enumerate(table):
        for language in LANGUAGES:
            text, level = words(table, row, language), language.lower()
            yield _prompt(table.path, text, "target", f"{number}-{level}", table.place, level)


def read_hub_nouns(table: CsvReader) -> Iterator[PublishedPrompt]:
    """Give the nearest nouns of ``pinpoint_ness``, in the prompt that HUB puts them in."""
    for number, row in zip(range(NOUNS), table, strict=False):
        text = f"a photo of {words(table, row, 'noun')}"
        yield _prompt(table.path, text, "near", number, table.place)


def read_hub_sentences(path: Path, data: list[object]) -> Iterator[PublishedPrompt]:
    """Give the prompts of ``selective_alignment``, a JSON list of prompts with their nouns.

    Raises UsageError for an entry of another form.
    """
    for number, entry in enumerate(data):
        text = entry.get("prompt") if isinstance(entry, dict) else None
        if not (isinstance(text, str) and text.strip()):
            raise UsageError(f"{path}: entry {number}: prompt should be text")
        yield _prompt(path, text, "target", number, f": entry {number}")


def _prompt(
    path: Path, text: str, role: Role, number: int | str, place: str, level: str | None = None
) -> PublishedPrompt:
    return PublishedPrompt(text, path.stem, role, f"{path.stem}-{number}", path, place, level)
