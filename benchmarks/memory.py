"""Peak memory of one conversion of a full-size checkpoint: ``python -m benchmarks.memory``.

Writes a random SD1.x file with EMA copies (3.9 GB as fp16) into a temporary folder, converts it,
and samples the process every 10 ms.  Linux only: the kernel tells anonymous from mapped memory.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmarks.convert import command, make_checkpoint, recipe_of

BOUND_MB = 600


def main() -> None:
    """Print the peaks; exit with 1 when anonymous memory exceeds the bound."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--dtype", default="fp16", help="of the input [fp16]")
    parser.add_argument("--folder", type=Path, help="where to work [a temporary folder]")
    parser.add_argument(
        "--limit",
        type=int,
        metavar="MB",
        help="bound all of the process's memory, the cache of files too (cgroups v1, as root)",
    )
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        source, target = folder / "in.ckpt", folder / "out.safetensors"
        make_checkpoint(source, args.dtype, ema=True)
        recipe = folder / "recipe.yaml"
        recipe.write_text(recipe_of(["Van Gogh"]), encoding="utf-8")
        started = time.monotonic()
        with bounded(args.limit) as start:
            peaks = sample([*start, *command(recipe, source, target)])
        seconds = time.monotonic() - started
        print(f"{source.stat().st_size / 1e9:.1f} GB in, {target.stat().st_size / 1e9:.1f} GB out")
    print(f"{seconds:.1f} s, " + ", ".join(f"{name} {peak:.0f} MB" for name, peak in peaks.items()))
    sys.exit(peaks["RssAnon"] > BOUND_MB)


@contextmanager
def bounded(megabytes: int | None) -> Iterator[list[str]]:
    """What to put before a command so that it gets no more memory than that."""
    if megabytes is None:
        yield []
        return
    group = Path(f"/sys/fs/cgroup/memory/erasepro-{os.getpid()}")
    group.mkdir()
    try:
        (group / "memory.limit_in_bytes").write_text(str(megabytes * 10**6))
        yield ["sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh"]
        used = int((group / "memory.max_usage_in_bytes").read_text())
        print(f"most memory used: {used / 1e6:.0f} MB")
    finally:
        group.rmdir()


def sample(command: Sequence[str]) -> dict[str, float]:
    """Run a command; peaks in MB of its anonymous and total resident memory."""
    process = subprocess.Popen(command)
    peaks = {"RssAnon": 0.0, "VmRSS": 0.0}
    while process.poll() is None:
        for name, now in resident(process.pid).items():
            peaks[name] = max(peaks[name], now)
        time.sleep(0.01)
    if process.returncode:
        sys.exit(f"the conversion ended with {process.returncode}")
    return peaks


def resident(pid: int) -> dict[str, float]:
    """MB of a process's anonymous and total resident memory; nothing of one that has ended."""
    with suppress(FileNotFoundError, ProcessLookupError):
        text = Path(f"/proc/{pid}/status").read_text()
        return {name: int(kb) / 1000 for name, kb in re.findall(r"(RssAnon|VmRSS):\s+(\d+)", text)}
    return {}


if __name__ == "__main__":
    main()
