"""What a person sees: progress by stage, and the table of updates by layer at the end."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from math import hypot
from typing import TYPE_CHECKING

from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from erasepro_convert.checkpoint.names import printable
from erasepro_convert.manifest import EditRecord, Manifest, ProbeRecord, Trained, Tuning
from erasepro_convert.storage import Location, shown

if TYPE_CHECKING:  # the one would import torch, the other is not always wanted
    from erasepro_convert.evaluate.figures import Value
    from erasepro_convert.inspection import Inspection
    from erasepro_convert.stress.run import Row
    from erasepro_convert.suggest import Neighbour

STAGES = {
    "check": "checking tensors",
    "tune": "trying settings",
    "train": "training",
    "erase": "erasing matrices",
    "probe": "probing",
    "hash": "hashing the input",
    "write": "writing",
    "verify": "comparing tensors",
}
COUNTED = ("check", "tune", "train", "erase", "probe", "verify")
"""Stages whose amounts are no bytes."""
BAR_WIDTH = 24
SHOWN = 120
"""Characters of a metadata entry."""
LINE = 2000
"""Characters of any text from a stranger's file."""
EXACT = ("erasepro", "erasepro-modified")
"""Methods that a tolerance of 0 makes exact."""
HARMFUL = 1000
"""Condition number of X from which an exact solve visibly harms: see docs/method.md."""


class Terminal:
    """Prints for people; ``quiet`` prints nothing, ``to_stderr`` leaves standard output alone."""

    def __init__(self, *, quiet: bool, to_stderr: bool) -> None:
        self._console = Console(stderr=to_stderr, quiet=quiet, highlight=False)

    @contextmanager
    def progress(self) -> Iterator[Callable[[str, int, int], None]]:
        """A callback that moves one bar a stage; no bars where there is no terminal."""
        columns = (
            TextColumn("{task.description:<18}"),
            BarColumn(),
            TextColumn("{task.fields[amount]}"),
            TimeRemainingColumn(),
        )
        shown = self._console.is_terminal and not self._console.quiet
        with Progress(*columns, console=self._console, disable=not shown) as bars:
            tasks = {
                stage: bars.add_task(text, total=None, start=False, visible=False, amount="")
                for stage, text in STAGES.items()
            }

            def update(stage: str, done: int, total: int) -> None:
                stage, _, note = stage.partition(": ")
                task = tasks[stage]
                bars.start_task(task)
                amount = (
                    f"{done}/{total}"
                    if stage in COUNTED
                    else f"{decimal(done)} of {decimal(total)}"
                )
                amount += f", {note}" if note else ""
                bars.update(task, completed=done, total=total, visible=True, amount=amount)

            yield update

    @contextmanager
    def steps(self, unit: str = "steps") -> Iterator[Callable[[str, int, int], None]]:
        """A callback that moves one bar through many steps, with the time that is left."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn(f"{{task.completed}}/{{task.total}} {unit}"),
            TimeElapsedColumn(),
            TextColumn("left:"),
            TimeRemainingColumn(elapsed_when_finished=False),
        )
        shown = self._console.is_terminal and not self._console.quiet
        with Progress(*columns, console=self._console, disable=not shown, transient=True) as bars:
            task = bars.add_task("loading", total=None)

            def update(text: str, done: int, total: int) -> None:
                bars.update(task, description=escape(text), completed=done, total=total)

            yield update

    def show(self, table: Table) -> None:
        """Print a table."""
        self._console.print(table)

    def say(self, line: str, style: str = "") -> None:
        """Print one line as it is."""
        self._console.print(escape(line), style=style, soft_wrap=True)

    def summary(self, manifest: Manifest, target: Location, record: Location) -> None:
        """The table of updates, what is worth knowing beside it, and where the files lie."""
        console = self._console
        source, output = manifest.input, manifest.output
        containers = ", ".join(dict.fromkeys(file.container for file in source.files))
        size = decimal(sum(file.size for file in source.files))
        console.print(
            f"{escape(source.name)}: {manifest.variant.name}, {containers}, {size}",
            soft_wrap=True,
        )
        for evidence in manifest.variant.evidence:
            console.print(f"  {escape(evidence)}", style="dim", soft_wrap=True)
        if manifest.edits:
            console.print(self._table(manifest.edits))
        if manifest.trained and manifest.trained.changes:
            console.print(trained_table(manifest.trained))
        if manifest.tuning:
            console.print(tuning_table(manifest.tuning))
        console.print(probe_table(manifest.probe))
        if manifest.ema:
            console.print("the EMA copy of the U-Net, edited too:")
            console.print(probe_table(manifest.ema.probe))
        for line in _remarks(manifest):
            console.print(escape(line), soft_wrap=True)
        for line in manifest.exceeded:
            console.print(escape(f"exceeded: {line}"), style="red", soft_wrap=True)
        if not output.written:
            console.print("dry run: nothing was written", soft_wrap=True)
            return
        for file in output.files:
            path = target if len(output.files) == 1 else target / file.name
            console.print(
                f"wrote {escape(shown(path))} ({decimal(file.size)}, sha256 {file.sha256})",
                soft_wrap=True,
            )
        console.print(f"wrote {escape(shown(record))}", soft_wrap=True)

    def _table(self, edits: tuple[EditRecord, ...]) -> Table:
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("layer", no_wrap=True)
        for heading in ("update", "relative", "residual before", "after"):
            table.add_column(heading, justify="right", no_wrap=True)
        if self._console.is_terminal:
            table.add_column("", no_wrap=True)  # the relative update, drawn
        rows = [_row(layer, list(group)) for layer, group in groupby(edits, lambda e: e.layer)]
        largest = max(relative for _, _, relative, _, _ in rows) or 1.0
        for layer, norm, relative, before, after in rows:
            bar = "█" * round(BAR_WIDTH * relative / largest) or "▏"
            cells = [layer, f"{norm:#.4g}", f"{relative:.2%}", f"{before:.1e}", f"{after:.1e}"]
            table.add_row(*cells, *([f"[cyan]{bar}[/]"] if self._console.is_terminal else []))
        return table


def trained_table(trained: Trained) -> Table:
    """Trained tensors that have no residual, a row a part of the U-Net."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("trained", no_wrap=True)
    for heading in ("tensors", "update", "relative"):
        table.add_column(heading, justify="right", no_wrap=True)
    for part in trained.parts():
        table.add_row(
            part.name, str(part.tensors), f"{part.update_norm:#.4g}", f"{part.relative_update:.2%}"
        )
    return table


def probe_table(record: ProbeRecord) -> Table:
    """Leak by concept and drift, for each way of feeding the U-Net."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("held-out prompts", "text encoder"):
        table.add_column(heading, no_wrap=True)
    for heading in ("before", "mean", "worst"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("at")
    skips = {measure.feed.clip_skip for measure in record.drift}
    for measure in (*record.leak, *record.drift):
        what = f"leak of {measure.concept}" if measure.concept else "drift of others"
        feed: str = measure.feed.text_encoder
        feed += f", clip skip {measure.feed.clip_skip}" if len(skips) > 1 else ""
        before = "1.00" if measure.concept else "0.00"  # by definition
        values = before, f"{measure.mean:.2f}", f"{measure.worst:.2f}"
        table.add_row(escape(what), feed, *values, escape(measure.worst_prompt))
    return table


def inspection_table(found: "Inspection") -> Table:
    """A row a property."""
    table = Table(box=None, pad_edge=True, show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")

    def row(name: str, lines: Iterable[str]) -> None:
        for number, line in enumerate(lines):
            table.add_row("" if number else name, escape(printable(line, LINE)))

    for file in found.files:
        row("file", [f"{file.name}: {file.container}, {decimal(file.size)}"])
        hashes = {"AutoV1": file.autov1, "AutoV2": file.autov2, "AutoV3": file.autov3}
        row("hashes", [", ".join(f"{name} {value}" for name, value in hashes.items() if value)])
        row("SHA-256", [file.sha256] if file.sha256 else [])
    row("variant", [found.variant] if found.variant else [])
    row("evidence", found.evidence)
    row(
        "tensors",
        [
            f"{part}: " + ", ".join(f"{count} {dtype}" for dtype, count in counts.items())
            for part, counts in found.tensors.items()
        ],
    )
    row("notable", found.facts)
    row("left out", [f"{count}: {reason}" for reason, count in found.left_out.items()])
    row("metadata", [printable(f"{k}: {v}", SHOWN) for k, v in sorted(found.metadata.items())])
    row("pickle asks for", [", ".join(found.asks_for)] if found.asks_for else [])
    verdict = "[red]would be refused[/]" if found.refused else "[green]would be converted[/]"
    table.add_row("", verdict)
    row("because", [found.refused] if found.refused else [])
    return table


def distance_table(record: ProbeRecord) -> Table:
    """How far targets are from anchors in one checkpoint alone."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("held-out prompts", no_wrap=True)
    table.add_column("distance to the anchor", justify="right")
    for measure in record.leak:
        if measure.feed.text_encoder == "stock":
            continue  # there is no other text encoder
        table.add_row(escape(f"{measure.concept}"), f"{measure.distance_before:.2f}")
    return table


def neighbour_table(neighbours: Sequence["Neighbour"]) -> Table:
    """Words with their cosines, nearest first."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("word", no_wrap=True)
    table.add_column("cosine", justify="right")
    for neighbour in neighbours:
        table.add_row(escape(neighbour.word), f"{neighbour.cosine:.2f}")
    return table


def stress_table(rows: Sequence["Row"]) -> Table:
    """A row an attack: how often its target is seen, and what that is worth where it matters."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("attack")
    for heading in ("original", "erased", "recovered", "control"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        name = f"{row.concept}, no attack" if row.attack == "none" else f"{row.attack}: {row.how}"
        within = row.recovered.interval if row.recovered else None
        interval = f" [dim]{within.low:.2f}–{within.high:.2f}[/]" if within else ""
        cells = (_plain(row.original), _plain(row.erased), _plain(row.recovered) + interval)
        table.add_row(escape(name), *cells, _plain(row.control))
    return table


def _plain(value: "Value | None") -> str:
    return f"{value.value:.2f}" if value else "–"


def tuning_table(tuning: Tuning) -> Table:
    """A row a try."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("tolerance", "retain weight", "templates", "tokens", "leak", "drift", "update"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for number, tried in enumerate(tuning.tries):
        tokens = tried.tokens if isinstance(tried.tokens, str) else f"first {tried.tokens.first}"
        cells = [f"{tried.tolerance:g}", f"{tried.retain_weight:g}", str(tried.templates), tokens]
        values = (tried.leak, tried.drift, tried.relative_update)
        cells += ["–" if value is None else f"{value:.2f}" for value in values]
        remark = "taken" if number == tuning.chosen else ""
        remark += "" if tried.within or tried.refused else " exceeds"
        table.add_row(*cells, tried.refused or remark.strip())
    return table


def _row(layer: str, edits: list[EditRecord]) -> tuple[str, float, float, float, float]:
    """A layer's matrices taken together: norms of the stacked weights, the worst residual."""
    update = hypot(*(edit.update_norm for edit in edits))
    relative = update / (hypot(*(edit.norm for edit in edits)) or 1.0)
    before = max(edit.residual_before.relative for edit in edits)
    return layer, update, relative, before, max(edit.residual_after.relative for edit in edits)


def _remarks(manifest: Manifest) -> Iterator[str]:
    alignment = manifest.alignment
    edits = manifest.edits
    columns, pairs = alignment.deeper_layers, len(alignment.prompts)
    condition = max((edit.condition for edit in edits), default=0.0)
    if manifest.trained:
        losses = manifest.trained.losses
        tenth = max(1, len(losses) // 10)
        first, last = (sum(some) / tenth for some in (losses[:tenth], losses[-tenth:]))
        yield (
            f"{len(manifest.all_edits)} tensors trained in {len(losses)} steps on "
            f"{manifest.trained.device}; loss {first:.4f} in the first tenth, "
            f"{last:.4f} in the last"
        )
    else:
        yield (
            f"{len(edits)} matrices edited; {columns.columns} columns from {pairs} prompt "
            f"{'pair' if pairs == 1 else 'pairs'}, {columns.merged} duplicates merged; "
            f"condition number up to {condition:.1e}"
        )
    if alignment.left_out:
        yield (
            f"{len(alignment.left_out)} retained prompts contain a target's words and were left "
            f"out: {', '.join(map(repr, alignment.left_out))}"
        )
    if manifest.recipe.method in EXACT and manifest.recipe.tolerance == 0 and condition > HARMFUL:
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
    if first := len(alignment.first_layer.conflicts) - len(columns.conflicts):
        yield (
            f"text_encoder.1 reads tokens before any attention: {first} more of its columns "
            "conflict (listed in the manifest)"
        )
    reasons = [entry.reason for entry in manifest.tensors.dropped]
    for reason in dict.fromkeys(reasons):
        yield f"dropped {reasons.count(reason)}: {reason}"
    for repaired in manifest.tensors.repaired:
        yield f"repaired {repaired.name}: {repaired.defect}"
    if manifest.variant.clip_skip_from == "metadata":
        yield "its metadata asks for clip skip 2: the result holds for 1 and 2"
    if manifest.tensors.renamed:
        count = len(manifest.tensors.renamed)
        yield f"renamed {count} tensors to the current spelling"
