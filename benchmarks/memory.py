"""Peak memory of one conversion of a full-size checkpoint: ``python -m benchmarks.memory``.

Writes a random SD1.x file with EMA copies (3.9 GB as fp16) into a temporary folder, converts it,
and samples the process every 10 ms.  Linux only: the kernel tells anonymous from mapped memory.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BOUND_MB = 800
NO_LIMITS = "limits: {leak: null, drift: null, relative_update: null}\n"


def main() -> None:
    """Print the peaks; exit with 1 when anonymous memory exceeds the bound."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--dtype", default="fp16", help="of the input [fp16]")
    parser.add_argument("--recipe", type=Path, default=Path("recipes/van-gogh.yaml"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "in.ckpt"), Path(folder, "out.safetensors")
        make = ["-m", "tests.miniature", str(source), "--full", "--ema", "--dtype", args.dtype]
        subprocess.run([sys.executable, *make], check=True)
        recipe = Path(folder, "recipe.yaml")  # random weights keep within no limit
        recipe.write_text(args.recipe.read_text("utf-8") + NO_LIMITS, encoding="utf-8")
        convert = ["-m", "erasepro_convert", "--quiet", str(recipe), str(source), str(target)]
        started = time.monotonic()
        peaks = sample(subprocess.Popen([sys.executable, *convert]))
        seconds = time.monotonic() - started
        print(f"{source.stat().st_size / 1e9:.1f} GB in, {target.stat().st_size / 1e9:.1f} GB out")
    print(f"{seconds:.1f} s, " + ", ".join(f"{name} {peak:.0f} MB" for name, peak in peaks.items()))
    sys.exit(peaks["RssAnon"] > BOUND_MB)


def sample(process: subprocess.Popen[bytes]) -> dict[str, float]:
    """Peaks in MB of the process's anonymous and total resident memory."""
    peaks = {"RssAnon": 0.0, "VmRSS": 0.0}
    status = Path(f"/proc/{process.pid}/status")
    while process.poll() is None:
        text = status.read_text()
        for name, peak in peaks.items():
            if found := re.search(rf"{name}:\s+(\d+) kB", text):
                peaks[name] = max(peak, int(found[1]) / 1000)
        time.sleep(0.01)
    if process.returncode:
        sys.exit(f"the conversion ended with {process.returncode}")
    return peaks


if __name__ == "__main__":
    main()
