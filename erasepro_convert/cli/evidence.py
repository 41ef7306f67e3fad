"""``erasepro-convert evidence OUT``: everything that is known of a release, in one zip."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from erasepro_convert.cli.conversion_options import release_option, signing_options
from erasepro_convert.cli.location import local_path
from erasepro_convert.cli.output_options import force_option, quiet_option
from erasepro_convert.errors import UsageError

if TYPE_CHECKING:
    from erasepro_convert.cli.terminal import Terminal
    from erasepro_convert.release.evidence_model import Evidence


@click.command("evidence")
@click.argument("checkpoint", metavar="OUT", type=local_path)
@click.option(
    "--out",
    "target",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="A folder, or a .zip file, to write.  [default: OUT.evidence.zip]",
)
@release_option
@signing_options
@force_option
@quiet_option
def evidence_command(
    checkpoint: Path,
    target: Path | None,
    release: tuple[str, ...],
    sign: Path | None,
    certificate: Path | None,
    chain: tuple[Path, ...],
    force: bool,
    quiet: bool,
) -> None:
    """Put all that is known of OUT, and what is not, into one zip that stands alone.

    It holds manifest, recipe, report, model card, a bill of materials (CycloneDX) and, where they
    lie beside OUT, what evaluate, stress and preview found.  evidence.json says who answers for the
    release and why (--release), which attacks were made and which were not, known ways back, and
    the digest of everything.  OUT's manifest names it in turn.  verify checks it.
    """
    from erasepro_convert.cli.terminal import Terminal
    from erasepro_convert.manifest.names_beside import EVIDENCE
    from erasepro_convert.manifest.signature import require_key, signer
    from erasepro_convert.output.destinations import Inputs, require_outputs, require_parent
    from erasepro_convert.release.bundle import ZIP
    from erasepro_convert.release.results import read_results, require_unchanged
    from erasepro_convert.release.words import Words
    from erasepro_convert.runtime.printable import shell_word
    from erasepro_convert.runtime.signals import uninterrupted
    from erasepro_convert.storage.location import sibling

    require_key(sign, certificate, chain)
    results = read_results(checkpoint)
    target = target or sibling(results.output, EVIDENCE)
    inputs = Inputs((*results.files, sign, certificate, *chain))
    if target.suffix == ZIP:
        require_outputs([target], inputs, force=force)
    else:
        inputs.require_apart(target)
        require_parent(target)
        if os.path.lexists(target):
            raise UsageError(f"{target}: exists already; remove it first, a folder is not replaced")
    statements = results.stated(release)
    signs = signer(sign, certificate, chain) if sign else None
    from erasepro_convert.release.evidence import make_evidence
    from erasepro_convert.release.licenses import license_warning
    from erasepro_convert.release.publish import publish, signature_to_renew

    renewed = signature_to_renew(results, signs)
    terminal = Terminal(quiet=quiet, to_stderr=False)
    require_unchanged(results)
    evidence, files = make_evidence(results, statements)
    with uninterrupted():  # the evidence and the manifest that names it
        publish(results, evidence, files, target, inputs, signs)
    _show(evidence, terminal)
    if Words(results.manifest).are_private:
        terminal.say("made with --private: the evidence has the recipe's words all the same")
    terminal.say(f"wrote {target}")
    terminal.say(
        f"{results.manifest_file} names it" + (f", and {renewed} is made anew" if renewed else "")
    )
    if results.manifest.evidence_sha256 not in (None, evidence.evidence_sha256):
        terminal.say(
            "the manifest named other evidence before, which verify finds to be superseded: "
            "remove it where it still lies" + _where(results.output, target),
            "yellow",
        )
    if warning := license_warning(statements.license, results.manifest.output.metadata):
        Terminal(quiet=quiet, to_stderr=True).say(warning, "yellow")
    terminal.say(f"$ erasepro-convert verify {shell_word(str(target))}")


def _where(output: Path, target: Path) -> str:
    """Name the place of evidence beside an output, unless it was written now."""
    from erasepro_convert.manifest.names_beside import EVIDENCE
    from erasepro_convert.storage.location import sibling

    usual = sibling(output, EVIDENCE)
    is_other = usual.exists() and not (target.exists() and usual.samefile(target))
    return f", as {usual}" if is_other else ""


def _show(evidence: "Evidence", terminal: "Terminal") -> None:
    """Say what was tested, what was not, and what nobody stated."""
    from erasepro_convert.cli.terminal import LINE
    from erasepro_convert.runtime.printable import printable

    run = evidence.stress.attacks if evidence.stress else ()
    rows = {
        "attacks drawn": [attack.attack for attack in run if attack.drawn],
        "attacks on text alone": [attack.attack for attack in run if not attack.drawn],
        "attacks not made": [attack.attack for attack in evidence.attacks_not_run],
    }
    for heading, attacks in rows.items():
        if attacks:
            terminal.say(printable(f"{heading}: {', '.join(attacks)}", LINE))
    for heading, lines in (
        ("not tested", evidence.not_tested),
        ("not stated (--release KEY=TEXT)", evidence.not_stated),
    ):
        if lines:
            terminal.say(heading)
        for line in lines:
            terminal.say(printable(f"  {line}", LINE))
