"""``erasepro-convert card OUT``: a model card for Hugging Face, and a text for Civitai."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from erasepro_convert.cli.conversion_options import release_option
from erasepro_convert.cli.location import local_path
from erasepro_convert.cli.output_options import (
    chosen_outputs,
    force_option,
    out_option,
    quiet_option,
)

if TYPE_CHECKING:
    from erasepro_convert.recipe.release import Release
    from erasepro_convert.release.results import Results

OUTPUTS = (".md", ".html")


@click.command("card")
@click.argument("place", metavar="OUT", type=local_path)
@out_option(OUTPUTS, "OUT.card.md, the card, and OUT.civitai.html")
@release_option
@force_option
@quiet_option
def card_command(
    place: Path, out: tuple[Path, ...], release: tuple[str, ...], force: bool, quiet: bool
) -> None:
    """Write what is known of OUT as a model card, and as a short text for Civitai.

    They say what OUT's manifest says, and what evaluate, stress and preview wrote beside it, and
    name what was not tested.  OUT is a checkpoint, an output folder or its manifest; it is read to
    see that it still is what the manifest says.  --release adds to the recipe's statements.
    """
    from rich.filesize import decimal

    from erasepro_convert.cli.terminal import Terminal
    from erasepro_convert.manifest.names_beside import CARD, CIVITAI
    from erasepro_convert.output.destinations import Inputs, put_all, require_outputs
    from erasepro_convert.release.results import read_results, require_unchanged
    from erasepro_convert.runtime.signals import uninterrupted
    from erasepro_convert.storage.location import sibling

    results = read_results(place)
    stated = results.stated(release)
    default = [sibling(results.output, ending) for ending in (CARD, CIVITAI)]
    outputs = chosen_outputs(out, default, OUTPUTS)
    inputs = Inputs(results.files)
    require_outputs(outputs, inputs, force=force)
    terminal = Terminal(quiet=quiet, to_stderr=False)
    size = decimal(sum(file.size for file in results.manifest.output.files))
    terminal.say(f"reading {results.output} ({size})")
    require_unchanged(results)
    from erasepro_convert.release.card import model_card
    from erasepro_convert.release.civitai import civitai_text
    from erasepro_convert.release.licenses import license_warning

    write = {".md": model_card, ".html": civitai_text}
    contents = {file: write[file.suffix](results, stated).encode() for file in outputs}
    with uninterrupted():
        put_all(contents, inputs)
    for file in contents:
        terminal.say(f"wrote {file}")
    for line in _remarks(results, stated):
        terminal.say(line)
    if warning := license_warning(stated.license, results.manifest.output.metadata):
        Terminal(quiet=quiet, to_stderr=True).say(warning, "yellow")


def _remarks(results: "Results", release: "Release") -> Iterator[str]:
    """Give a line on each thing that the card lacks, with what would add it."""
    from erasepro_convert.manifest.safetensors_metadata import original_license
    from erasepro_convert.release.licenses import hub_license
    from erasepro_convert.release.words import Words
    from erasepro_convert.runtime.printable import on_one_line

    if Words(results.manifest).are_private:
        yield "made with --private: targets, prompts, pictures and manifest are left out"
    if not results.pictures:
        yield "no pictures lie beside OUT: preview draws them"
    if not results.evaluation:
        yield "no evaluation lies beside OUT, and the card says so: evaluate makes one"
    if not results.stress:
        yield "no stress test lies beside OUT, and the card says so: stress makes one"
    if not release.base_model:
        yield "no base model is named: --release base_model=OWNER/NAME"
    if not release.license:
        said = original_license(results.manifest.output.metadata)
        original = f" (the original's: {on_one_line(said)})" if said else ""
        yield f"no licence is stated: --release license=NAME{original}"
    elif hub_license(release.license).link == "LICENSE":
        yield (
            f"{on_one_line(release.license)}: Hugging Face lists no such licence; "
            "put its text beside the card, as LICENSE"
        )
