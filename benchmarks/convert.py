"""What a conversion costs beside doing its part by hand: ``python -m benchmarks.convert``.

Writes a full-size random SD1.x checkpoint into a folder, then alternates what a careful user does
by hand (``cp``, ``sync``, the SHA-256 of input and output) and a conversion with default probes, so
that both meet the same disk.  With EMA copies in the input, what is copied is the output: the part
that is kept.

A conversion is timed in three states of the user's cache folder: ``recipe`` (this recipe was run on
this text encoder before), ``encoder`` (another recipe was) and ``empty``.
"""

import argparse
import csv
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

STATES = {"recipe": "", "encoder": "text-* features-*", "empty": "*"}
"""What is taken out of the cache folder before a conversion."""


class Row(NamedTuple):
    """Seconds of a pair; a core-second is a second of one core, user and system."""

    cache: str
    copy: float
    sha256sum: float
    openssl: float
    """The same digests by another program: coreutils' may lack the processor's instructions."""
    conversion: float
    core_seconds: float


def main() -> None:
    """Print each pair and a table of medians; write the raw figures as CSV."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--dtype", default="fp16", help="of the input [fp16]")
    parser.add_argument("--ema", action="store_true", help="with EMA copies in the input")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--cache", nargs="+", choices=STATES, default=[*STATES])
    parser.add_argument("--suffix", default=".safetensors", help="of the input, or .ckpt")
    parser.add_argument("--folder", type=Path, help="where to work [a temporary folder]")
    parser.add_argument("--csv", type=Path, help="where the raw figures go")
    args = parser.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
        source, target = folder / f"in{args.suffix}", folder / "out.safetensors"
        make_checkpoint(source, args.dtype, ema=args.ema)
        recipe = folder / "recipe.yaml"
        recipe.write_text(recipe_of(["Van Gogh"]), encoding="utf-8")
        convert = command(recipe, source, target)
        subprocess.run(convert, check=True)  # warm: files and libraries
        copied = target.rename(folder / "copied") if args.ema else source
        for cache in args.cache:
            for _ in range(args.pairs):
                rows.append(measured(cache, convert, source, copied, target))
                print(", ".join(f"{n} {v}" for n, v in shown(rows[-1])), flush=True)
    if args.csv:
        with args.csv.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([Row._fields, *rows])
    print_table(rows)


def measured(cache: str, convert: list[str], source: Path, copied: Path, target: Path) -> Row:
    """Do it by hand, then convert."""
    copy = target.with_name("copy")
    copying = timed(["cp", str(copied), str(copy)]) + timed(["sync", str(copy)])
    both = [str(source), str(copy)]
    coreutils, openssl = timed(["sha256sum", *both]), timed(["openssl", "dgst", "-sha256", *both])
    copy.unlink()
    for pattern in STATES[cache].split():
        for file in target.with_name("cache").glob(f"erasepro-convert/{pattern}"):
            file.unlink()
    before = core_seconds()
    converting = timed(convert)
    used = core_seconds() - before
    target.unlink()
    return Row(cache, copying, coreutils, openssl, converting, used)


def print_table(rows: Sequence[Row]) -> None:
    """Medians for each state of the cache."""
    print("| cache | copy | sha256sum | openssl | conversion | ratio | core-seconds |")
    print("|---" * 7 + "|")
    for cache in dict.fromkeys(row.cache for row in rows):
        mine = [row for row in rows if row.cache == cache]
        copy, coreutils, openssl, conversion, used = (
            statistics.median(column) for column in list(zip(*mine, strict=True))[1:]
        )
        ratios = [conversion / (copy + hashing) for hashing in (coreutils, openssl)]
        print(
            f"| {cache} | {copy:.2f} | {coreutils:.2f} | {openssl:.2f} | {conversion:.1f} "
            f"| {ratios[0]:.2f}, {ratios[1]:.2f} | {used:.1f} |"
        )


def shown(row: Row) -> list[tuple[str, str]]:
    """A row's fields in words."""
    values = (v if isinstance(v, str) else f"{v:.2f} s" for v in row)
    return list(zip(Row._fields, values, strict=True))


def core_seconds() -> float:
    """The seconds of all cores that ended processes of this one have used."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def make_checkpoint(path: Path, dtype: str, *, ema: bool = False, small: bool = False) -> None:
    """An SD1.x checkpoint with random weights, of full size unless it is to be a miniature."""
    make = ["-m", "tests.miniature", str(path), "--dtype", dtype]
    flags = [*([] if small else ["--full"]), *(["--ema"] if ema else [])]
    subprocess.run([sys.executable, *make, *flags], check=True)


def recipe_of(targets: Sequence[str]) -> str:
    """Send each target to "artist" with the default templates."""
    concepts = "".join(f"  - {{target: {target}, anchor: artist}}\n" for target in targets)
    limits = "{leak: null, drift: null, relative_update: null}"  # random weights keep within none
    return f"version: 1\nname: benchmark\nlimits: {limits}\nconcepts:\n{concepts}"


def command(recipe: Path, source: Path, target: Path) -> list[str]:
    """A conversion, as a user would start it."""
    files = [str(path) for path in (recipe, source, target)]
    return [sys.executable, "-m", "erasepro_convert", "--quiet", "--force", *files]


def timed(command: list[str]) -> float:
    """Wall seconds of a command that must succeed."""
    started = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - started


if __name__ == "__main__":
    main()
