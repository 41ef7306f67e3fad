"""How ``verify`` checks a bundle of evidence, and what it says of it."""

from pathlib import Path


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
    from erasepro_convert.release.verify_evidence import verify_evidence
    from erasepro_convert.runtime.wording import counted

    terminal = Terminal(quiet=quiet, to_stderr=as_json)
    with terminal.progress() as progress:
        verified = verify_evidence(
            bundle, checkpoint=checkpoint, key=key, certificates=chain, progress=progress
        )
    findings, checked = verified.findings, verified.checked
    if as_json:
        print_json(findings, checked)
    show_findings(terminal, findings, checked, verified.said)
    require_none(findings, str(bundle))
    terminal.say(f"{bundle}: {counted(len(verified.evidence.files), 'file')} as the evidence says")
