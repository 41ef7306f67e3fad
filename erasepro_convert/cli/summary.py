"""The summary of a conversion for people: tables, remarks and the files written."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from math import hypot

from rich.filesize import decimal
from rich.table import Table

from erasepro_convert.cli.tables import probe_table
from erasepro_convert.cli.terminal import Terminal
from erasepro_convert.manifest import EditRecord, Manifest, Trained
from erasepro_convert.recipe import Recipe
from erasepro_convert.recipe.methods import METHODS
from erasepro_convert.runtime.wording import counted, counted_of
from erasepro_convert.storage.location import Location, redacted

SHORTEST_BAR, LONGEST_BAR = 8, 24
"""The least and the greatest width of a bar, in characters; below the least there is no bar."""
GAP = 2
"""Characters between two columns."""
HARMFUL = 1000
"""The condition number of X from which an exact solve visibly harms: see docs/method.md."""


def summary(
    terminal: Terminal, manifest: Manifest, target: Location, manifest_place: Location
) -> None:
    """Print the table of updates, the other tables, remarks, and where the files lie."""
    source, output = manifest.input, manifest.output
    containers = ", ".join(dict.fromkeys(file.container for file in source.files))
    size = decimal(sum(file.size for file in source.files))
    terminal.say(f"{source.name}: {manifest.variant.name}, {containers}, {size}")
    for evidence in manifest.variant.evidence:
        terminal.say(f"  {evidence}", "dim")
    if manifest.edits:
        room = terminal.room_beside(_edit_table(manifest.edits, bar=0)) - GAP
        terminal.show(_edit_table(manifest.edits, bar=min(room, LONGEST_BAR)))
    if manifest.trained and manifest.trained.changes:
        terminal.show(_trained_table(manifest.trained))
    terminal.show(probe_table(manifest.probe))
    if manifest.ema:
        terminal.say("the EMA copy of the U-Net, edited too:")
        terminal.show(probe_table(manifest.ema.probe))
    for line in _remarks(manifest):
        terminal.say(line)
    for file in output.files:
        path = redacted(target if len(output.files) == 1 else target / file.name)
        facts = f"{decimal(file.size)}, sha256 {file.sha256}"
        terminal.say(f"wrote {path} ({facts})" if output.written else f"{path} would have {facts}")
    terminal.say(
        f"wrote {redacted(manifest_place)}" if output.written else "dry run: nothing was written"
    )


def _edit_table(edits: Sequence[EditRecord], bar: int) -> Table:
    """Return a row for each layer; ``bar`` is the length of the largest relative update's bar."""
    has_bars = bar >= SHORTEST_BAR
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("layer")
    for heading in ("update", "relative", "residual before", "after"):
        table.add_column(heading, justify="right")
    if has_bars:
        table.add_column("")
    rows = [_row(layer, list(group)) for layer, group in groupby(edits, lambda e: e.layer)]
    largest = max(relative for _, _, relative, _, _ in rows) or 1.0
    for layer, norm, relative, before, after in rows:
        cells = [layer, f"{norm:#.4g}", f"{relative:.2%}", f"{before:.1e}", f"{after:.1e}"]
        if has_bars:
            cells.append(f"[cyan]{'█' * round(bar * relative / largest) or '▏'}[/]")
        table.add_row(*cells)
    return table


def _row(layer: str, edits: list[EditRecord]) -> tuple[str, float, float, float, float]:
    """Summarise the matrices of a layer: norms of the stacked weights, and the worst residual."""
    update = hypot(*(edit.update_norm for edit in edits))
    relative = update / (hypot(*(edit.norm for edit in edits)) or 1.0)
    before = max(edit.residual_before.relative for edit in edits)
    after = max(edit.residual_after.relative for edit in edits)
    return layer, update, relative, before, after


def _trained_table(trained: Trained) -> Table:
    """Return a row for each part of the U-Net, for trained tensors that have no residual."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("trained")
    for heading in ("tensors", "update", "relative"):
        table.add_column(heading, justify="right")
    for part in trained.parts():
        table.add_row(
            part.name, str(part.tensors), f"{part.update_norm:#.4g}", f"{part.relative_update:.2%}"
        )
    return table


def _is_exact(recipe: Recipe) -> bool:
    """Whether the recipe asks for a closed form without any residual (Eq. 5)."""
    return "tolerance" in METHODS[recipe.method].keys and recipe.tolerance == 0


def _trained_remarks(manifest: Manifest, trained: Trained) -> Iterator[str]:
    """Give lines on what a training changed."""
    losses = trained.losses
    tenth = max(1, len(losses) // 10)
    first, last = sum(losses[:tenth]) / tenth, sum(losses[-tenth:]) / tenth
    yield (
        f"{counted_of(manifest.tensors.edited, len(manifest.all_edits), 'tensor')} "
        f"trained in {counted(len(losses), 'step')} on "
        f"{trained.device}; loss {first:.4f} in the first tenth, "
        f"{last:.4f} in the last"
    )
    yield "whether a training erased its targets only pictures tell: erasepro-convert evaluate"


def _target_remarks(manifest: Manifest) -> Iterator[str]:
    """Give lines on targets that were added, that were erased before, and that prompts contain."""
    for target, words in manifest.synonyms.items():
        shares = ", ".join(f"{found.word} {found.distance:.2f}" for found in words)
        yield f"means the same as {target!r} to this checkpoint: {shares or 'no other word'}"
    alignment = manifest.alignment
    if alignment.held:
        yield (
            f"erased before, kept and not solved again: {', '.join(alignment.held)} (leak counted "
            "in how far other words are from the anchor)"
        )
    if left_out := alignment.left_out:
        prompts = counted(len(left_out), "retained prompt")
        yield f"{prompts} with a target's words left out: {', '.join(map(repr, left_out))}"


def _remarks(manifest: Manifest) -> Iterator[str]:
    """Give lines on what was edited, left out, dropped, repaired and renamed."""
    alignment = manifest.alignment
    edits = manifest.edits
    columns, pair_count = alignment.deeper_layers, len(alignment.prompts)
    condition = max((edit.condition for edit in edits), default=0.0)
    changed = sum(edit.changed for edit in edits)
    if manifest.trained:
        yield from _trained_remarks(manifest, manifest.trained)
    elif pair_count:
        yield (
            f"{counted_of(changed, len(edits), 'matrix', 'matrices')} edited; "
            f"{counted(columns.columns, 'column')} from "
            f"{counted(pair_count, 'prompt pair')}, {counted(columns.merged, 'duplicate')} merged; "
            f"condition number up to {condition:.1e}"
        )
    else:
        yield "every target had been erased from the input before: no matrix was edited"
    yield from _target_remarks(manifest)
    if _is_exact(manifest.recipe) and condition > HARMFUL:
        yield (
            "warning: the exact solve (tolerance 0) of nearly collinear columns harms the model; "
            "leave tolerance and retain.weight at their defaults to avoid that"
        )
    for conflict in columns.conflicts:
        anchors = ", ".join(f"{place.token!r} in {place.prompt!r}" for place in conflict.anchors)
        yield (
            f"conflict: {conflict.token!r} in {conflict.target_prompt!r} is sent to {anchors} "
            "at once, which leaves a residual"
        )
    shallow_conflicts = len(alignment.first_layer.conflicts)
    if alignment.first_layer.conflicts not in ((), columns.conflicts):
        yield (
            f"text_encoder.1 reads tokens before any attention: {shallow_conflicts} of its columns "
            f"{'conflicts' if shallow_conflicts == 1 else 'conflict'} (listed in the manifest)"
        )
    reasons = [entry.reason for entry in manifest.tensors.dropped]
    for reason in dict.fromkeys(reasons):
        yield f"dropped {reasons.count(reason)}: {reason}"
    for repaired in manifest.tensors.repaired:
        yield f"repaired {repaired.name}: {repaired.defect}"
    if manifest.variant.clip_skip_from == "metadata":
        skips = " and ".join(map(str, manifest.recipe.clip_skip))
        yield f"its metadata adds to the recipe's clip skip: the result holds for {skips}"
    if manifest.tensors.renamed:
        count = counted(len(manifest.tensors.renamed), "tensor")
        yield f"renamed {count} to the current spelling"
