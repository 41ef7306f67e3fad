"""What a batch costs beside copying its files: ``python -m benchmarks.batch``.

Writes checkpoints that differ in one weight into a folder, then alternates ``cp`` (as many at once)
+ ``sync`` and a batch, both with inputs that are not in the kernel's cache.  Full-size files take
2.1 GB each as fp16, and as much again for what is made of them, which is removed after each run.
How it grows, miniatures show: ``--small --files 1 4 16 64 --jobs 1 2``.  Linux only.
"""

import argparse
import csv
import os
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import NamedTuple

from benchmarks.convert import make_checkpoint, recipe_of, timed
from benchmarks.memory import resident


class Row(NamedTuple):
    """A pair: seconds of copying, and a batch."""

    files: int
    jobs: int
    gigabytes: float
    copy: float
    batch: float
    anonymous_mb: float
    """Of all processes together, at most."""
    half_written: int
    """Outputs at once, at most."""


def main() -> None:
    """Print each pair and a table of medians; write the raw figures as CSV."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--files", type=int, nargs="+", default=[20], help="inputs [20]")
    parser.add_argument("--jobs", type=int, nargs="+", default=[2], help="at once [2]")
    parser.add_argument("--pairs", type=int, default=2, help="for each of both [2]")
    parser.add_argument("--dtype", default="fp16", help="of the inputs [fp16]")
    parser.add_argument("--small", action="store_true", help="miniatures instead of full size")
    parser.add_argument("--folder", type=Path, help="where to work [a temporary folder]")
    parser.add_argument("--csv", type=Path, help="where the raw figures go")
    args = parser.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        recipe = folder / "recipe.yaml"
        recipe.write_text(recipe_of(["Van Gogh"]), encoding="utf-8")
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
        inputs = make_inputs(folder, max(args.files), args.dtype, small=args.small)
        warm_up(recipe, inputs[0], folder)
        for files, jobs in product(args.files, args.jobs):
            for _ in range(args.pairs):
                rows.append(row := measured(recipe, inputs[:files], folder, jobs))
                print(shown(row), flush=True)
    if args.csv:
        with args.csv.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([Row._fields, *rows])
    print_table(rows)


def make_inputs(folder: Path, count: int, dtype: str, *, small: bool) -> list[Path]:
    """Checkpoints that differ in the last weight, where a batch looks for differences.

    Ends where there is no room for them and for what will be made of them.
    """
    inputs = [folder / "in" / f"{number}.safetensors" for number in range(count)]
    inputs[0].parent.mkdir()
    make_checkpoint(inputs[0], dtype, small=small)
    size = inputs[0].stat().st_size
    needed, free = 2 * count * size, shutil.disk_usage(folder).free + size
    if needed > free:
        sys.exit(
            f"{folder} needs {needed / 1e9:.0f} GB for {count} files and their outputs and has "
            f"{free / 1e9:.0f}: give another --folder or fewer --files"
        )
    for number, path in enumerate(inputs[1:], 1):
        shutil.copyfile(inputs[0], path)
        with path.open("r+b") as file:
            file.seek(size - 2)
            file.write(number.to_bytes(2, "little"))  # tiny and finite as fp16, and in fp32
    return inputs


def warm_up(recipe: Path, source: Path, folder: Path) -> None:
    """Meet the text encoder, which all inputs share, and read the libraries: once in a batch."""
    subprocess.run(command(recipe, [source], folder / "out", 1), check=True)
    shutil.rmtree(folder / "out")


def measured(recipe: Path, inputs: Sequence[Path], folder: Path, jobs: int) -> Row:
    """Copy, then convert; what they make is removed."""
    copies, outputs = folder / "copies", folder / "out"
    copies.mkdir()
    forget(inputs)
    copying = timed(copy_command(inputs, copies, jobs))
    shutil.rmtree(copies)
    forget(inputs)
    started = time.monotonic()
    memory, half_written = watch(command(recipe, inputs, outputs, jobs), outputs)
    seconds = time.monotonic() - started
    assert len(list(outputs.glob("*.safetensors"))) == len(inputs)
    assert '"linked"' not in (outputs / "batch.manifest.jsonl").read_text("utf-8")
    shutil.rmtree(outputs)
    size = sum(path.stat().st_size for path in inputs) / 1e9
    return Row(len(inputs), jobs, size, copying, seconds, memory, half_written)


def shown(row: Row) -> str:
    """A pair in words."""
    return (
        f"{row.files} files of {row.gigabytes:.1f} GB, {row.jobs} at once: copy {row.copy:.2f} s, "
        f"batch {row.batch:.2f} s, {row.anonymous_mb:.0f} MB, {row.half_written} half-written"
    )


def print_table(rows: Sequence[Row]) -> None:
    """A line for each number of files and of jobs: medians of seconds, the most of the rest."""
    print("| files | jobs | copy, s | batch, s | ratio | files an hour | MB | half-written |")
    print("|---" * 8 + "|")
    for files, jobs in dict.fromkeys((row.files, row.jobs) for row in rows):
        mine = [row for row in rows if (row.files, row.jobs) == (files, jobs)]
        copy = statistics.median(row.copy for row in mine)
        batch = statistics.median(row.batch for row in mine)
        memory = max(row.anonymous_mb for row in mine)
        half_written = max(row.half_written for row in mine)
        print(
            f"| {files} | {jobs} | {copy:.2f} | {batch:.2f} | {batch / copy:.1f} "
            f"| {files / batch * 3600:.0f} | {memory:.0f} | {half_written} |"
        )


def forget(paths: Sequence[Path]) -> None:
    """Take files out of the kernel's cache."""
    for path in paths:
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def copy_command(inputs: Sequence[Path], folder: Path, jobs: int) -> list[str]:
    """``cp`` of all files, so many at once, and ``sync`` of the copies."""
    to = shlex.quote(str(folder))
    copy = f"xargs -0 -n 1 -P {jobs} cp --reflink=never -t {to}"
    script = f"printf '%s\\0' \"$@\" | {copy} && sync {to}/*"
    return ["sh", "-c", script, "sh", *map(str, inputs)]


def command(recipe: Path, inputs: Sequence[Path], outputs: Path, jobs: int) -> list[str]:
    """A batch, as a user would start it; the memory of a small machine makes it no smaller."""
    files = [str(path) for path in (recipe, *inputs)]
    options = ["--out", str(outputs), "--jobs", str(jobs), "--memory", f"{jobs}G", "--quiet"]
    return [sys.executable, "-m", "erasepro_convert", "batch", *files, *options]


def watch(command: Sequence[str], outputs: Path) -> tuple[float, int]:
    """Run a batch; the most MB of anonymous memory and of half-written outputs meanwhile."""
    process = subprocess.Popen(command, process_group=0)
    memory, half_written = 0.0, 0
    try:
        while process.poll() is None:
            now = sum(resident(pid).get("RssAnon", 0.0) for pid in group(process.pid))
            memory = max(memory, now)
            half_written = max(half_written, len(list(outputs.glob(".*.safetensors.*.part"))))
            time.sleep(0.05)
    except BaseException:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()
        raise
    if process.returncode:
        sys.exit(f"the batch ended with {process.returncode}")
    return memory, half_written


def group(leader: int) -> Iterator[int]:
    """A process and all that it started."""
    for entry in Path("/proc").iterdir():
        with suppress(ValueError, ProcessLookupError):
            if os.getpgid(int(entry.name)) == leader:
                yield int(entry.name)


if __name__ == "__main__":
    main()
