"""Make the demo model from nothing: ``python -m tools.demo_model BUILD OUT``.

BUILD keeps what is made on the way; a part that is there already is not made again.
"""

import sys
from pathlib import Path

from tools.demo_model import assemble, autoencoder, judge, prompts, text_encoder, unet


def main(folder: Path, out: Path) -> None:
    """One part after the other."""
    if not (folder / "vae").exists():
        autoencoder.main(folder)
    if not (folder / "text_encoder").exists():
        text_encoder.main(folder)
    if not (out / "judge.safetensors").exists():
        judge.main(folder, out)
    if not (folder / "unet").exists():
        unet.main(folder)
    assemble.main(folder, out)
    prompts.main(out)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
