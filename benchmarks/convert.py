"""What a conversion costs beside copying the file: ``python -m benchmarks.convert``.

Writes a full-size random SD1.x checkpoint into a folder, then alternates ``cp`` + ``sync`` and a
conversion with default probes and hashes, so that both meet the same disk.  With EMA copies in the
input, what is copied is the output: the part that is kept.
"""

import argparse
import csv
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path


def main() -> None:
    """Print each pair, the medians and their ratio; write the raw seconds as CSV."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--dtype", default="fp16", help="of the input [fp16]")
    parser.add_argument("--ema", action="store_true", help="with EMA copies in the input")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where to work [a temporary folder]")
    parser.add_argument("--csv", type=Path, help="where the raw seconds go")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        source, target = folder / "in.ckpt", folder / "out.safetensors"
        make_checkpoint(source, args.dtype, ema=args.ema)
        recipe = folder / "recipe.yaml"
        recipe.write_text(recipe_of(["Van Gogh"]), encoding="utf-8")
        convert = command(recipe, source, target)
        subprocess.run(convert, check=True)  # warm: files and libraries
        copied = target.rename(folder / "copied") if args.ema else source
        rows = []
        for _ in range(args.pairs):
            copy = folder / "copy"
            copying = timed(["cp", str(copied), str(copy)]) + timed(["sync", str(copy)])
            copy.unlink()
            converting = timed(convert)
            target.unlink()
            rows.append((copying, converting))
            print(f"copy {copying:.2f} s, conversion {converting:.2f} s", flush=True)
    if args.csv:
        with args.csv.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("copy", "conversion"), *rows])
    copies, conversions = (statistics.median(column) for column in zip(*rows, strict=True))
    print(f"medians {copies:.2f} s and {conversions:.2f} s: ratio {conversions / copies:.2f}")


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
    subprocess.run(command, check=True)
    return time.monotonic() - started


if __name__ == "__main__":
    main()
