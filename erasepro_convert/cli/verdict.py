"""The verdict on a conversion, in at most 15 lines of 80 columns."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from rich.cells import cell_len
from rich.filesize import decimal

from erasepro_convert.cli.terminal import LINE, MARKS, Terminal
from erasepro_convert.manifest import Manifest
from erasepro_convert.manifest.verdict import MEASURED, Verdict
from erasepro_convert.runtime.printable import printable, shell_word, shortened
from erasepro_convert.runtime.wording import counted
from erasepro_convert.storage.location import Location, redacted

WIDTH, LINES = 80, 15
"""What a verdict fits into: columns and lines."""
OPENINGS = {"written": "Erased from", "dry run": "Would erase from", "refused": "Not erased from"}


@dataclass(frozen=True)
class Places:
    """Recipe, input and output as the user gave them, and where manifest and LoRA lie.

    ``recipe`` is a name or a file; where words stand in for it, it is empty, and ``words`` are the
    options that give them.
    """

    recipe: str
    words: tuple[str, ...]
    source: Location
    target: Location
    manifest: Location
    lora: Path | None = None


def show_verdict(terminal: Terminal, verdict: Verdict, closing: Sequence[str] = ()) -> None:
    """Print a verdict, and ``closing`` lines on what was written and what to do next."""
    terminal.say(shortened(f"{OPENINGS[verdict.state]} {verdict.source}", WIDTH - 1) + ":", "bold")
    terminal.say(f"  {_erased(verdict.erased)}")
    terminal.say(MEASURED)
    for check in verdict.checks:
        mark, colour = MARKS[check.held]
        terminal.say(shortened(f"{mark} {check.what}", WIDTH), colour)
    if verdict.changes:
        terminal.say(shortened(verdict.changes, WIDTH))
    shown = max(1, LINES - 4 - len(verdict.checks) - len(closing))
    warnings = list(verdict.warnings)
    if len(warnings) > shown:
        more = len(warnings) - shown + 1
        warnings[shown - 1 :] = [f"{counted(more, 'more remark')}: see --details"]
    for warning in warnings:
        terminal.say(shortened(f"! {warning}", WIDTH), "yellow")
    for line in closing:
        terminal.say(line)


def closing_lines(
    terminal: Terminal, manifest: Manifest, verdict: Verdict, places: Places
) -> list[str]:
    """Return the lines on what was written and what to do next."""
    files = manifest.output.files
    facts = decimal(sum(file.size for file in files))
    if verdict.autov2:
        facts += f", AutoV2 {verdict.autov2}"
    elif len(files) > 1:
        facts += f", {counted(len(files), 'file')}"
    room = WIDTH if terminal.is_interactive else LINE
    lora = _lora_lines(manifest, places, room)
    if verdict.state == "dry run":
        return [f"dry run: nothing was written; it would be {facts}", *lora]
    wrote = [
        f"wrote {_end_of(redacted(places.target), room - len(f'wrote  ({facts})'))} ({facts})",
        f"wrote {_end_of(redacted(places.manifest), room - len('wrote '))}",
        *lora,
    ]
    return wrote + _next_steps(places, is_trained=manifest.trained is not None)


def _lora_lines(manifest: Manifest, places: Places, room: int) -> list[str]:
    """Say where the LoRA lies, and what it lacks of the changes; nothing where there is none."""
    if not manifest.lora:
        return []
    loss, size = manifest.lora.loss, decimal(manifest.lora.file.size)
    verb = "wrote" if manifest.output.written else "would write"
    facts = f" ({size}, a LoRA of rank {loss.rank})"
    place = _end_of(str(places.lora), room - len(f"{verb} {facts}"))
    if loss.exact == loss.matrices:
        held = "the LoRA has all changes to rounding"
    else:
        held = f"the LoRA lacks {loss.overall:.2%} of all changes, at most {loss.worst:.2%} of one"
    return [f"{verb} {place}{facts}", held]


def _next_steps(places: Places, *, is_trained: bool) -> list[str]:
    """Return commands to copy; pictures and a card need files that are here."""
    if not isinstance(places.target, Path) or not isinstance(places.source, Path):
        return _command(places, "verify {OUT}", "--base {IN}")
    if is_trained:
        look = _command(places, "evaluate {RECIPE} {OUT}", "--base {IN}")
    else:
        option = "--recipe {RECIPE}" if places.recipe else "{RECIPE}"
        look = _command(places, "preview {OUT}", f"--base {{IN}} {option}")
    return [*look, *_command(places, "card {OUT}", "# before it: evaluate, stress, report")]


def _command(places: Places, first: str, second: str) -> list[str]:
    """Return a command in one line or two; for names that are too long words stand in their place.

    ``second`` is the rest of the command, or a remark that is left out where there is no room.
    """
    recipe = [places.recipe] if places.recipe else places.words
    names = {
        "RECIPE": shlex.join(recipe),
        "OUT": shell_word(redacted(places.target)),
        "IN": shell_word(redacted(places.source)),
    }
    words = {word: word for word in names}
    if not places.recipe:
        words["RECIPE"] = "--target WORDS --anchor WORDS"
    for said in (names, words):
        start = f"$ erasepro-convert {first.format_map(said)}"
        rest = second.format_map(said)
        in_two = [start] if rest.startswith("#") else [f"{start} \\", f"    {rest}"]
        for lines in ([f"{start} {rest}"], in_two):
            if all(line.isprintable() and cell_len(line) <= WIDTH for line in lines):
                return lines
    raise AssertionError("the words themselves fit")


def _erased(pairs: Sequence[tuple[str, str]]) -> str:
    """Return as many targets with their anchors as one line holds, and how many more there are."""
    room = WIDTH - 2
    for shown in range(min(len(pairs), room), 0, -1):
        line = _first(pairs, shown)
        if cell_len(line) <= room:
            return line
    target, anchor = (shortened(word, room // 3) for word in pairs[0])
    return _first([(target, anchor), *pairs[1:]], 1)


def _first(pairs: Sequence[tuple[str, str]], shown: int) -> str:
    groups = [
        f"{', '.join(printable(target) for target, _ in group)} → {printable(anchor) or 'no words'}"
        for anchor, group in groupby(pairs[:shown], itemgetter(1))
    ]
    more = f" and {len(pairs) - shown} more" if len(pairs) > shown else ""
    return "; ".join(groups) + more


def _end_of(path: str, room: int) -> str:
    """Return a path, or as much of its end as there is room for."""
    path = printable(path, LINE)
    if cell_len(path) <= room:
        return path
    while cell_len(path) >= room:
        path = path[1:]
    return f"…{path}"
