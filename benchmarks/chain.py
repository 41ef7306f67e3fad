"""What a user does without us, beside us: ``python -m benchmarks.chain``.

From single file to single file with UCE (Gandikota et al., 2024) and the libraries that its
authors' script and diffusers' converters use: 1. load the checkpoint into diffusers and save a
folder; 2. load the folder, edit the cross-attention, save the edited matrices; 3. load the folder
again, put them in, save; 4. give every tensor its original name and write one file.  Each step is
a process of its own, as scripts are.  The edit is the published procedure: a prompt for each
concept, encoded at all 77 positions by itself, its last token's feature sent to the anchor's.

Ours has the default eight templates, probes and hashes, which the chain has none of.  It meets a
text encoder that it knows: once with a recipe that is new, and once with the same again.
"""

import argparse
import csv
import os
import random
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.convert import command, make_checkpoint, recipe_of, timed

STEPS = ("load", "edit", "merge", "single")
ERASE, PRESERVE = 1.0, 0.5


def main() -> None:
    """Time pairs of chain and conversion for each number of concepts; print medians and ratios."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--concepts", type=int, nargs="+", default=[1, 100])
    parser.add_argument("--dtype", default="fp16", help="of the input [fp16]")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where to work [a temporary folder]")
    parser.add_argument("--csv", type=Path, help="where the raw seconds go")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.step:
        assert args.folder
        step(args.step, args.folder)
        return
    os.environ["HF_HUB_OFFLINE"] = "1"
    rows = []
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
        make_checkpoint(folder / "in.ckpt", args.dtype)
        for count in args.concepts:
            names = concepts(count)
            (folder / "concepts").write_text("\n".join(names), encoding="utf-8")
            recipe = folder / "recipe.yaml"
            recipe.write_text(recipe_of(names), encoding="utf-8")
            convert = command(recipe, folder / "in.ckpt", folder / "out.safetensors")
            timed(convert)  # so that the text encoder is known
            for _ in range(args.pairs):
                chain = [sys.executable, "-m", "benchmarks.chain", "--folder", name, "--step"]
                steps = [timed([*chain, part]) for part in STEPS]
                for kind in ("text", "features"):
                    for file in folder.glob(f"cache/erasepro-convert/{kind}-*"):
                        file.unlink()
                ours, again = timed(convert), timed(convert)
                rows.append((count, *steps, ours, again))
                shown = ", ".join(f"{p} {s:.1f}" for p, s in zip(STEPS, steps, strict=True))
                print(
                    f"{count} concepts: {sum(steps):.1f} s ({shown}), ours {ours:.1f} s, "
                    f"again {again:.1f} s",
                    flush=True,
                )
    for count in args.concepts:
        theirs = statistics.median(sum(row[1:-2]) for row in rows if row[0] == count)
        ours, again = (
            statistics.median(row[i] for row in rows if row[0] == count) for i in (-2, -1)
        )
        print(
            f"{count} concepts: {theirs:.1f} s and {ours:.1f} s, ratio {theirs / ours:.1f}; "
            f"again {again:.1f} s, ratio {theirs / again:.1f}"
        )
    if args.csv:
        with args.csv.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("concepts", *STEPS, "ours", "again"), *rows])


def concepts(count: int) -> list[str]:
    """Names of nobody, two words each; the same for the same count."""
    shuffle = random.Random(0)
    parts = [
        "ba",
        "ke",
        "lo",
        "mi",
        "nu",
        "ra",
        "ve",
        "to",
        "si",
        "da",
        "fe",
        "gor",
        "hal",
        "jun",
        "ler",
        "mar",
        "nor",
        "pel",
        "ros",
        "tan",
        "ul",
        "vin",
        "wes",
    ]
    names: set[str] = set()
    while len(names) < count:
        words = ("".join(shuffle.choices(parts, k=shuffle.choice((2, 2, 3)))) for _ in range(2))
        names.add(" ".join(word.capitalize() for word in words))
    return sorted(names)


def step(name: str, folder: Path) -> None:
    """One script of the chain."""
    {"load": load, "edit": edit, "merge": merge, "single": single}[name](folder)


def load(folder: Path) -> None:
    """Single file to diffusers folder."""
    from diffusers import StableDiffusionPipeline

    from erasepro_convert.output.diffusers_folder import write_configurations
    from erasepro_convert.sd1.architecture import architecture_of
    from erasepro_convert.sd1.keys import SD1

    write_configurations(architecture_of(SD1), folder / "configs")
    StableDiffusionPipeline.from_single_file(
        str(folder / "in.ckpt"),
        config=str(folder / "configs"),
        local_files_only=True,
        safety_checker=None,
        feature_extractor=None,
    ).save_pretrained(folder / "model")


def edit(folder: Path) -> None:
    """UCE's closed form; saves the edited matrices alone."""
    import torch
    from diffusers import StableDiffusionPipeline
    from safetensors.torch import save_file

    pipeline = StableDiffusionPipeline.from_pretrained(folder / "model", local_files_only=True)

    @torch.inference_mode()
    def feature(prompt: str) -> torch.Tensor:
        tokens = pipeline.tokenizer(
            prompt, padding="max_length", max_length=77, truncation=True, return_tensors="pt"
        )
        last = int(tokens.attention_mask.sum()) - 2
        features: torch.Tensor = pipeline.text_encoder(tokens.input_ids)[0]
        return features[0, last]

    names = (folder / "concepts").read_text("utf-8").split("\n")
    features = [(feature(name), feature("artist")) for name in names]
    edited = {}
    for name, weight in pipeline.unet.named_parameters():
        if "attn2.to_k" in name or "attn2.to_v" in name:
            old = weight.detach()
            left = PRESERVE * old
            right = PRESERVE * torch.eye(old.shape[1])
            for target, anchor in features:
                left = left + ERASE * torch.outer(old @ anchor, target)
                right = right + ERASE * torch.outer(target, target)
            edited[name] = (left @ torch.inverse(right)).contiguous()
    save_file(edited, folder / "edited.safetensors")


def merge(folder: Path) -> None:
    """Edited matrices into the diffusers folder."""
    from diffusers import StableDiffusionPipeline
    from safetensors.torch import load_file

    pipeline = StableDiffusionPipeline.from_pretrained(folder / "model", local_files_only=True)
    pipeline.unet.load_state_dict(load_file(folder / "edited.safetensors"), strict=False)
    pipeline.save_pretrained(folder / "merged")


def single(folder: Path) -> None:
    """Diffusers folder to single file."""
    from safetensors.torch import load_file, save_file

    from erasepro_convert.sd1.keys import SD1, text_keys
    from erasepro_convert.sd1.unet import unet_keys
    from erasepro_convert.sd1.vae import vae_keys

    state = {}
    for path, keys in (
        ("unet/diffusion_pytorch_model", unet_keys(SD1)),
        ("text_encoder/model", text_keys(SD1)),
        ("vae/diffusion_pytorch_model", vae_keys(SD1)),
    ):
        tensors = load_file(folder / "merged" / f"{path}.safetensors")
        for key in keys:
            name = key.diffusers if key.diffusers in tensors else key.diffusers.split(".", 1)[1]
            state[key.original] = tensors[name].view(key.shape)
    save_file(state, folder / "single.safetensors")


if __name__ == "__main__":
    main()
