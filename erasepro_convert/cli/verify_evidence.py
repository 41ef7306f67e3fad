"""How ``verify`` checks a bundle of evidence, and what it says of it."""

from pathlib import Path

HELD = {
    "bundle": "each file has its size and digest; none is missing, none too many",
    "evidence": "true to itself; digests, runs and what is not stated fit the rest",
    "manifest": "true to itself, and named by the evidence",
    "recipe": "reads as the one in the manifest",
    "bom": "valid CycloneDX 1.6, with the manifest's digests",
    "results": "evaluation and stress test, where they are, are of this checkpoint",
    "signature": "made by this key or certificate, of this evidence",
    "checkpoint": "files, metadata and tensors are as the manifest says",
    "link": "the manifest beside the checkpoint names this evidence",
}
"""What a check says that found nothing."""
NOT_MADE = {
    "signature": "give --key PUB or --certificate CERT",
    "checkpoint": "it does not lie beside: give --checkpoint OUT",
    "link": "no manifest that names evidence lies beside the checkpoint",
}
"""Why a check was not made."""


def verify_bundle(
    bundle: Path,
    checkpoint: Path | None,
    key: Path | None,
    chain: tuple[Path, ...],
    *,
    quiet: bool,
    as_json: bool,
) -> None:
    """Verify a bundle of evidence and say what was checked.

    Raises VerificationError if anything deviates, and what ``verify_evidence`` raises.
    """
    from erasepro_convert.cli.findings import print_json, require_none, show_findings
    from erasepro_convert.cli.terminal import Terminal
    from erasepro_convert.release.verify_evidence import CHECKS, verify_evidence
    from erasepro_convert.runtime.wording import counted

    terminal = Terminal(quiet=quiet, to_stderr=as_json)
    with terminal.progress() as progress:
        verified = verify_evidence(
            bundle, checkpoint=checkpoint, key=key, certificates=chain, progress=progress
        )
    findings, checked = verified.findings, verified.checked
    if as_json:
        print_json(findings, checked)
    not_made = NOT_MADE if verified.is_signed else NOT_MADE | {"signature": "it is not signed"}
    show_findings(terminal, findings, checked, CHECKS, HELD, not_made)
    require_none(findings, str(bundle))
    terminal.say(f"{bundle}: {counted(len(verified.evidence.files), 'file')} as the evidence says")
