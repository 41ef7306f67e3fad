"""What is seen of the jobs on the way from a checkpoint to a release."""

from collections.abc import Mapping
from typing import Any

import gradio as gr

import erasepro_convert as erasepro
from erasepro_convert.errors import CheckpointError, RecipeError, describe_error
from erasepro_convert.runtime.figures import format_duration
from erasepro_convert.runtime.printable import quoted
from erasepro_convert.ui import markup, work
from erasepro_convert.ui.erase_fields import EraseFields
from erasepro_convert.ui.jobs import Job
from erasepro_convert.ui.release import DOCUMENTS
from erasepro_convert.ui.updates import Updates


def begun(fields: EraseFields, job: Job) -> Updates:
    """Return what is seen of a job that has been accepted: what it will say is still open."""
    errors = (fields.checkpoint_error, fields.what_error, fields.output_error)
    place = {"words": fields.words_note, "try": fields.tried, "look": fields.drawn}
    shown: Updates = dict.fromkeys([*errors, *filter(None, [place.get(job.kind)])], "")
    return shown | ({fields.draw_all: gr.update(visible=False)} if job.kind == "look" else {})


def ended(fields: EraseFields, job: Job) -> Updates:
    """Return what is seen of a job that is over."""
    if job.state == "failed":
        return _failed(fields, job)
    if job.state == "cancelled":
        return {}
    match job.kind:
        case "words":
            return _found(fields, job.result, job.request)
        case "try":
            return {fields.tried: markup.result(job.result)}
        case "look":
            return _drawn(fields, job)
    return _released(fields, job)


def _failed(fields: EraseFields, job: Job) -> Updates:
    assert job.error
    message = markup.error(describe_error(job.error))
    match job.error:
        case CheckpointError():
            return {fields.checkpoint_error: message}
        case RecipeError():
            return {fields.what_error: message}
    place = {"words": fields.what_error, "try": fields.tried, "look": fields.drawn}
    return {place.get(job.kind, fields.output_error): message}


def _found(fields: EraseFields, found: erasepro.Neighbours, asked: Mapping[str, Any]) -> Updates:
    word = asked["word"]
    if found.is_unknown:
        return {
            fields.words_note: markup.note(
                f"This checkpoint does not tell {quoted(word)} from many other words: it does not "
                "know it."
            ),
            fields.synonyms: gr.update(choices=[], value=[], visible="hidden"),
        }
    words = [near.word for near in found.nearest]
    return {
        fields.synonyms: gr.update(choices=words, value=[], visible=bool(words)),
    }


def _drawn(fields: EraseFields, job: Job) -> Updates:
    if isinstance(job.result, work.Seconds):
        about = format_duration(job.result.count)
        takes = (
            f"It takes about {about} here. Meanwhile the time left is shown; it can be cancelled."
        )
        return {fields.draw_note: markup.note(takes), fields.draw_all: gr.update(visible=True)}
    prompts = "; ".join(markup.text(prompt) for prompt in job.result.prompts)
    picture = (
        f'<img src="written/{job.number}/pictures" alt="Pictures before and after '
        f'erasure, a row for each of these prompts: {prompts}">'
    )
    return {fields.drawn: f'<div class="scroll" tabindex="0">{picture}</div>'}


def _released(fields: EraseFields, job: Job) -> Updates:
    written: work.Written = job.result
    manifest = written.manifest
    (file, *_) = manifest.output.files
    about = {document.title: document.about for document in DOCUMENTS}
    links = "".join(
        f'<li><a href="written/{job.number}/{title.lower()}" target="_blank" rel="noopener">'
        f"{markup.text(title)}</a>: {markup.text(about[title])} "
        f"(<code>{markup.text(path.name)}</code>)</li>"
        for title, path in written.documents.items()
    )
    missing = "".join(
        markup.error(f"The checkpoint is written, but not its {title.lower()}: {why}")
        for title, why in written.missing.items()
    )
    beside = f"Its {markup.term('manifest')} lies beside it."
    if manifest.lora:
        name = markup.text(manifest.lora.file.name)
        beside += f" The same changes as a LoRA: <code>{name}</code>."
    return {
        fields.release: (
            '<div class="verdict held"><h3>Written</h3>'
            f"<p><code>{markup.text(written.output)}</code>, {file.size / 1e6:,.1f} MB</p>"
            f"<p>{markup.term('AutoV2')} <code>{file.autov2}</code>, {markup.term('SHA-256')} "
            f'<code class="digest">{file.sha256}</code></p>'
            f"<p>{beside}</p><ul>{links}</ul>{missing}</div>" + markup.result(manifest)
        ),
        fields.yaml: gr.update(value=manifest.recipe.to_yaml(), visible=True),
        fields.copy: gr.update(visible=True),
    }
