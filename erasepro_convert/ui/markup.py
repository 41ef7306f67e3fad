"""HTML of what the page shows.  Every text that comes from a file or a user is escaped here."""

import re
from collections.abc import Iterable, Sequence
from html import escape as _escape

import erasepro_convert as erasepro
from erasepro_convert.runtime.printable import printable
from erasepro_convert.runtime.wording import counted

LONGEST = 2000
"""The most characters of a text that are shown."""

TERMS = {
    "leak": "How much of a target is left in the text that reaches the picture: 0% is nothing, "
    "100% is all of it.",
    "drift": "How far prompts of other things have moved: 0% is not at all, 100% is as far as any "
    "two prompts differ.",
    "text encoder": "The part of a checkpoint that reads the prompt. Some programs take the "
    "original one beside an erased file, so that both are measured.",
    "manifest": "A file beside the output that says exactly what was done, with digests of all "
    "files, so that anybody can check it.",
    "SHA-256": "A digest: two files with the same one have the same bytes.",
    "AutoV2": "The first ten characters of the SHA-256, which Civitai and web UIs show.",
}

MARKS = {
    True: ("✓", "held", "holds: "),
    False: ("✗", "failed", "does not hold: "),
    None: ("·", "", ""),
}
"""How a check is marked that held, did not hold or was not made: a sign, a class, words to hear."""


def text(value: object) -> str:
    """Escape a text, and what a terminal or a template engine would obey in it."""
    lines = (printable(line, LONGEST) for line in str(value).split("\n"))
    shown = _escape("\n".join(lines))
    return re.sub(r"[{}$`]", lambda found: f"&#{ord(found[0])};", shown)


def term(word: str) -> str:
    """Return a word with its explanation, which shows on hover and on focus."""
    about = text(TERMS[word])
    names = f'data-about="{about}" aria-label="{word}: {about}"'
    return f'<dfn class="term" tabindex="0" {names}>{word}</dfn>'


def error(message: object) -> str:
    """Return an error as the command line says it; nothing for an empty one."""
    shown = text(message).replace("\n", "<br>")
    return f'<p class="error" role="alert">{shown}</p>' if shown else ""


def note(message: object) -> str:
    """Return a remark."""
    return f'<p class="note">{text(message)}</p>'


def table(caption: str, headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table; the first cell of a row is its heading."""
    head = "".join(f'<th scope="col">{text(heading)}</th>' for heading in headings)
    body = "".join(
        f'<tr><th scope="row">{text(row[0])}</th>'
        + "".join(f"<td>{text(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{text(caption)}"><table>'
        f"<caption>{text(caption)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )


def inspection(found: erasepro.Inspection) -> str:
    """Say what a file is."""
    if found.refused:
        return ""
    size = sum(file.size for file in found.files)
    kinds = ", ".join(dict.fromkeys(file.container for file in found.files))
    lines = [*found.evidence, *found.facts]
    lines += [f"{count} entries are left out: {reason}" for reason, count in found.left_out.items()]
    items = "".join(f"<li>{text(line)}</li>" for line in lines)
    return (
        f"<p><strong>{text(found.variant)}</strong>, {text(kinds)}, {size / 1e6:,.1f} MB. "
        "Nothing inside it was run.</p>"
        f"<details><summary>What else was found</summary><ul>{items}</ul></details>"
    )


def checks(made: Iterable[tuple[bool | None, str]]) -> str:
    """List checks: whether each held, or None where it was not made, and what it says."""
    items = "".join(
        f'<li class="{MARKS[held][1]}"><span aria-hidden="true">{MARKS[held][0]}</span> '
        f'<span class="hidden">{MARKS[held][2]}</span>{text(what)}</li>'
        for held, what in made
    )
    return f'<ul class="checks">{items}</ul>'


def result(manifest: erasepro.Manifest) -> str:
    """Show the verdict on an erasure, what to change if it does not hold, and each prompt."""
    verdict = erasepro.verdict(manifest)
    held = not manifest.exceeded
    words = _pairs(verdict.erased)
    advice = "".join(f"<li>{text(sentence)}</li>" for sentence in manifest.exceeded)
    remarks = "".join(f"<li>{text(warning)}</li>" for warning in verdict.warnings)
    return (
        f'<div class="verdict {"held" if held else "failed"}">'
        f"<h3>{'It holds' if held else 'It does not hold'}</h3><p>{text(words)}</p>"
        + checks((one.held, one.what) for one in verdict.checks)
        + (f"<h4>What to change</h4><ul>{advice}</ul>" if advice else "")
        + (f"<h4>Mind</h4><ul>{remarks}</ul>" if remarks else "")
        + f"<p>{text(verdict.changes)}</p>"
        + f"<p class='note'>{term('leak')} and {term('drift')} are measured on the text of prompts "
        f"that were not solved for, with the edited and the original {term('text encoder')}; no "
        "picture was looked at.</p></div>" + _prompts(manifest)
    )


def _pairs(erased: Iterable[tuple[str, str]]) -> str:
    return ", ".join(f"{target} → {anchor or 'nothing'}" for target, anchor in erased)


def _prompts(manifest: erasepro.Manifest) -> str:
    tables = []
    for measures, caption in ((manifest.probe.leak, "Leak"), (manifest.probe.drift, "Drift")):
        worst: dict[str, tuple[str, float]] = {}
        for measure in measures:
            for prompt, value in measure.by_prompt.items():
                concept = measure.concept or "others"
                if prompt not in worst or value > worst[prompt][1]:
                    worst[prompt] = (concept, value)
        rows = sorted(worst.items(), key=lambda item: -item[1][1])
        cells = ((prompt, concept, f"{value:.0%}") for prompt, (concept, value) in rows)
        tables.append(
            table(f"{caption} by prompt, the worst first", ("prompt", "of", caption.lower()), cells)
        )
    return f"<details><summary>Each prompt</summary>{''.join(tables)}</details>"


def verified(found: erasepro.Verified) -> str:
    """Say of each check that was made whether it held, and list every deviation."""
    manifest = found.manifest
    made = [(held, f"{check}: {found.said[check]}") for check, held in found.checked.items()]
    lines = checks((held, line) for held, line in made if held is not None)
    if found.findings:
        heading = f"{counted(len(found.findings), 'deviation')} from its manifest"
        return f'<div class="verdict failed"><h3>{heading}</h3>{lines}</div>' + _deviations(
            found.findings
        )
    words = _pairs(erasepro.verdict(manifest).erased)
    return (
        f'<div class="verdict held"><h3>It is what its manifest says</h3>{lines}'
        f"<p>{found.compared} tensors were compared. The {term('manifest')} says that this was "
        f"erased: {text(words)}, by version {text(manifest.tool.version)}.</p></div>"
    )


def verified_evidence(found: erasepro.VerifiedEvidence) -> str:
    """Say of each check of evidence whether it held, and list every deviation."""
    lines = checks((held, f"{check}: {found.said[check]}") for check, held in found.checked.items())
    if found.findings:
        heading, kind = f"{counted(len(found.findings), 'deviation')} from the evidence", "failed"
    else:
        heading = f"{counted(len(found.evidence.files), 'file')} as the evidence says"
        kind = "held"
    words = _pairs(erasepro.verdict(found.manifest).erased)
    return (
        f'<div class="verdict {kind}"><h3>{heading}</h3>{lines}'
        f"<p>The evidence says that this was erased: {text(words)}.</p></div>"
        + (_deviations(found.findings) if found.findings else "")
    )


def _deviations(findings: Iterable[erasepro.Finding]) -> str:
    rows = [(one.place, one.kind, one.expected, one.found) for one in findings]
    return table("Deviations", ("where", "check", "expected", "found"), rows)


def outcomes(entries: Iterable[erasepro.Entry]) -> str:
    """Show how each file of a batch ended."""
    rows = [
        (
            entry.output,
            entry.outcome,
            f"{entry.figures.leak:.0%}" if entry.figures else "",
            f"{entry.figures.drift:.0%}" if entry.figures else "",
            entry.reason or "",
        )
        for entry in entries
    ]
    return (
        table("Files", ("output", "outcome", "worst leak", "worst drift", "why"), rows)
        if rows
        else ""
    )
