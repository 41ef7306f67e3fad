"""Write the documents of a release beside it, for programs."""

from collections.abc import Callable
from pathlib import Path

from erasepro_convert.manifest.names_beside import CARD, CIVITAI, EVIDENCE, REPORT
from erasepro_convert.output.destinations import Inputs, put, require_outputs
from erasepro_convert.release.report_page import report_page
from erasepro_convert.release.results import Results, read_results, require_unchanged
from erasepro_convert.storage.location import sibling


def write_report(output: Path | str, *, force: bool = False) -> Path:
    """Write the report of an output, a file or a diffusers folder, and return where it lies.

    It shows what the output's manifest says, and what ``preview`` and ``evaluate`` put beside the
    output.  ``force`` replaces a report that lies there.

    Raises UsageError for an output without a manifest and for a place that cannot be written to;
    OSError passes through.
    """
    return _write(
        Path(output),
        REPORT,
        lambda r: report_page(r.manifest, r.pictures, r.evaluation),
        force=force,
    )


def write_card(output: Path | str, *, force: bool = False) -> Path:
    """Write the model card of an output, as Hugging Face reads it, and return where it lies.

    Raises VerificationError for an output that is not what its manifest says; otherwise as
    ``write_report``.
    """
    from erasepro_convert.release.card import model_card

    return _write(
        Path(output), CARD, lambda r: model_card(_unchanged(r), r.stated()).encode(), force=force
    )


def write_civitai(output: Path | str, *, force: bool = False) -> Path:
    """Write the short text of an output for Civitai, and return where it lies.

    It raises what ``write_card`` raises.
    """
    from erasepro_convert.release.civitai import civitai_text

    return _write(
        Path(output),
        CIVITAI,
        lambda r: civitai_text(_unchanged(r), r.stated()).encode(),
        force=force,
    )


def write_evidence(output: Path | str, *, force: bool = False) -> Path:
    """Write the evidence of an output, one zip that stands alone, and return where it lies.

    The manifest names it from then on.  It raises what ``write_card`` raises, and UsageError for an
    output that is signed: the command signs both again.
    """
    from erasepro_convert.release.evidence import make_evidence
    from erasepro_convert.release.publish import publish, signature_to_renew

    results = read_results(Path(output))
    target, inputs = sibling(results.output, EVIDENCE), Inputs(results.files)
    require_outputs([target], inputs, force=force)
    signature_to_renew(results, None)
    publish(results, *make_evidence(_unchanged(results), results.stated()), target, inputs)
    return target


def _write(output: Path, ending: str, text: Callable[[Results], bytes], *, force: bool) -> Path:
    results = read_results(output)
    target, inputs = (
        sibling(results.output, ending),
        Inputs((results.output, results.manifest_file)),
    )
    require_outputs([target], inputs, force=force)
    put(target, text(results), inputs)
    return target


def _unchanged(results: Results) -> Results:
    require_unchanged(results)
    return results
