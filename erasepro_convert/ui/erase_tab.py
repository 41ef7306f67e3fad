"""The way from a checkpoint to a release: what each button does, and what is seen of it."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

import erasepro_convert as erasepro
from erasepro_convert.errors import CheckpointError, RecipeError, describe_error
from erasepro_convert.ui import markup, work
from erasepro_convert.ui.erase_fields import NOT_WRITTEN, EraseFields
from erasepro_convert.ui.folders import MISTAKES, Folders
from erasepro_convert.ui.jobs import Job, Jobs
from erasepro_convert.ui.release import DOCUMENTS
from erasepro_convert.ui.request import Request, load_recipes, pair_of, pair_text
from erasepro_convert.ui.updates import QUIET, Updates, paths, recipe_choices


class EraseTab(EraseFields):
    """The fields, and what happens with them."""

    kinds = ("words", "try", "look", "write")
    """The kinds of jobs that this tab has done."""

    def __init__(self, folders: Folders, jobs: Jobs) -> None:
        """Lay out the tab, inside of ``gr.Blocks``."""
        self._folders, self._jobs = folders, jobs
        super().__init__()
        self._wire()

    def _wire(self) -> None:
        what = [self.checkpoint, self.recipes, self.pairs, self.output]
        suggested = gr.Textbox(visible=False)  # the output that was suggested last
        self.checkpoint.change(
            self._inspect, [self.checkpoint], [self.checkpoint_error, self.facts], **QUIET
        )
        for field in (self.checkpoint, self.recipes, self.pairs):
            field.change(
                self._suggest_output, [*what, suggested], [self.output, suggested], **QUIET
            )
        for field in (self.checkpoint, self.recipes, self.pairs):
            field.change(self._plan, [*self.request], [self.draw_note], **QUIET)
        self.recipes.change(
            self._strength_of, [self.recipes, self.strength], [self.strength], **QUIET
        )
        self.find.click(
            self._find, [self.checkpoint, self.target],
            [self.checkpoint_error, self.what_error, self.words_note], **QUIET,
        )  # fmt: skip
        self.add.click(
            self._add, [self.target, self.anchor, self.synonyms, self.pairs],
            [self.pairs, self.target, self.synonyms, self.words_note, self.what_error], **QUIET,
        )  # fmt: skip
        errors = [
            self.checkpoint_error, self.what_error, self.output_error, self.tried, self.drawn,
        ]  # fmt: skip
        for button, kind in (
            (self.try_button, "try"), (self.draw_button, "look"), (self.write_button, "write"),
        ):  # fmt: skip
            button.click(partial(self._submit, kind), self.request, errors, **QUIET)

        self.start_over.click(self._cleared, None, self.outputs, **QUIET)

    def _cleared(self) -> Updates:
        """Return every field as it was in the beginning."""
        empty: Updates = {component: gr.update(value="") for component in self.outputs}
        hidden = gr.update(choices=[], value=[], visible="hidden")
        return empty | {
            self.checkpoint: gr.update(value=None),
            self.words_note: gr.update(value=markup.note("Every field is empty again.")),
            self.recipes: gr.update(value=[]),
            self.strength: gr.update(value=1),
            self.replace: gr.update(value=False),
            self.synonyms: hidden,
            self.pairs: hidden,
            self.release: gr.update(value=NOT_WRITTEN),
            self.yaml: gr.update(value="", visible=False),
        }

    def choices(self) -> Updates:
        """Return the checkpoints and the recipes that there are to choose from."""
        found = paths(self._folders.checkpoints())
        return {
            self.checkpoint: gr.update(
                choices=found,
                info="A Stable Diffusion 1.x file or diffusers folder: choose one of "
                f"{len(found)}, or type its path.",
            ),
            self.recipes: gr.update(choices=recipe_choices(self._folders)),
        }

    def restored(self) -> Updates:
        """Return the fields as they were when the last job was submitted, for a page that opens."""
        for job in reversed(self._jobs.all()):
            if job.kind in self.kinds and "strength" in job.request:
                fields = job.request
                return {
                    component: self._filled(component, value)
                    for component, value in zip(self.request, fields.values(), strict=True)
                }
        return {}

    def _filled(self, component: Any, value: Any) -> Any:
        if component is self.pairs:
            return gr.update(choices=list(value), value=list(value), visible=bool(value))
        return gr.update(value=list(value) if isinstance(value, tuple) else value)

    def show(self, job: Job) -> Updates:
        """Return what is seen once a job of this tab is over."""
        if job.state == "failed":
            return self._failed(job)
        if job.state == "cancelled":
            return {}
        match job.kind:
            case "words":
                return self._found(job.result, job.request)
            case "try":
                return {self.tried: markup.result(job.result)}
            case "look":
                prompts = "; ".join(markup.text(prompt) for prompt in job.result.prompts)
                picture = (
                    f'<img src="written/{job.number}/pictures" alt="Pictures before and after '
                    f'erasure, a row for each of these prompts: {prompts}">'
                )
                return {self.drawn: f'<div class="scroll" tabindex="0">{picture}</div>'}
        return self._released(job)

    def _failed(self, job: Job) -> Updates:
        assert job.error
        message = markup.error(describe_error(job.error))
        match job.error:
            case CheckpointError():
                return {self.checkpoint_error: message}
            case RecipeError():
                return {self.what_error: message}
        place = {"words": self.what_error, "try": self.tried, "look": self.drawn}
        return {place.get(job.kind, self.output_error): message}

    def _found(self, found: erasepro.Neighbours, asked: Mapping[str, Any]) -> Updates:
        word = asked["word"]
        if found.is_unknown:
            return {
                self.words_note: markup.note(
                    f"This checkpoint does not tell {word!r} from many other words: it does not "
                    "know it."
                ),
                self.synonyms: gr.CheckboxGroup(choices=[], value=[], visible="hidden"),
            }
        words = [near.word for near in found.nearest]
        return {
            self.words_note: "",
            self.synonyms: gr.CheckboxGroup(choices=words, value=[], visible=bool(words)),
        }

    def _released(self, job: Job) -> Updates:
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
        return {
            self.release: (
                '<div class="verdict held"><h3>Written</h3>'
                f"<p><code>{markup.text(written.output)}</code>, {file.size / 1e6:,.1f} MB</p>"
                f"<p>{markup.term('AutoV2')} <code>{file.autov2}</code>, {markup.term('SHA-256')} "
                f'<code class="digest">{file.sha256}</code></p>'
                f"<p>Its {markup.term('manifest')} lies beside it.</p><ul>{links}</ul></div>"
                + markup.result(manifest)
            ),
            self.yaml: gr.Textbox(value=manifest.recipe.to_yaml(), visible=True),
        }

    def _inspect(self, checkpoint: str | None) -> Updates:
        if not checkpoint:
            return {self.checkpoint_error: "", self.facts: ""}
        try:
            found = erasepro.inspect(self._folders.to_read(checkpoint))
        except MISTAKES as error:
            return {self.checkpoint_error: markup.error(describe_error(error)), self.facts: ""}
        return {
            self.checkpoint_error: markup.error(found.refused or ""),
            self.facts: markup.inspection(found),
        }

    def _suggest_output(
        self,
        checkpoint: str | None,
        recipes: list[str] | None,
        pairs: list[str] | None,
        output: str | None,
        before: str | None,
    ) -> Any:
        """Suggest a name for the output, unless the user has written one."""
        if (output or "").strip() != (before or ""):
            return gr.skip(), gr.skip()
        wish = Request(checkpoint or "", tuple(recipes or ()), tuple(pairs or ()))
        return wish.suggested_output(), wish.suggested_output()

    def _plan(self, *fields: Any) -> str:
        request = _request(fields)
        try:
            recipe = request.recipe(self._folders)
            plan = erasepro.plan_preview(recipe, self._folders.to_read(request.checkpoint))
        except MISTAKES:
            return ""  # beside its own field the mistake is shown when it is used
        each = f"{plan.pictures} pictures of {plan.size} pixels before, and as many after"
        if plan.is_quick:
            return markup.note(f"{each}: it takes seconds here.")
        return markup.note(
            f"{each}, on the processor alone: a picture takes minutes. Once it has begun, the time "
            "left is shown, and it can be cancelled."
        )

    def _strength_of(self, recipes: list[str] | None, strength: float) -> Any:
        """Take over the strength of a recipe that sets one."""
        try:
            own = load_recipes(self._folders, recipes).strength if recipes else 1
        except MISTAKES:
            return gr.skip()
        return own if own not in (1, strength) else gr.skip()

    def _find(self, checkpoint: str | None, target: str | None) -> Updates:
        nothing: Updates = {self.checkpoint_error: "", self.what_error: "", self.words_note: ""}
        try:
            self._folders.to_read(checkpoint or "")
        except MISTAKES as error:
            return {**nothing, self.checkpoint_error: markup.error(error)}
        target = (target or "").strip()
        if not target:
            return {**nothing, self.what_error: markup.error("write the words to erase first")}
        wanted = partial(work.find_words, self._folders, checkpoint or "", target)
        self._jobs.submit("words", f"Finding words like {target}", wanted, {"word": target})
        return nothing

    def _add(
        self,
        target: str | None,
        anchor: str | None,
        synonyms: list[str] | None,
        pairs: list[str] | None,
    ) -> Updates:
        target = (target or "").strip()
        if not target:
            return {self.what_error: markup.error("write the words to erase first")}
        added = [pair_text(word, anchor or "") for word in (target, *(synonyms or []))]
        listed = list(dict.fromkeys([*(pairs or []), *added]))
        return {
            self.pairs: gr.CheckboxGroup(choices=listed, value=listed, visible=True),
            self.target: "",
            self.synonyms: gr.CheckboxGroup(choices=[], value=[], visible="hidden"),
            self.words_note: "",
            self.what_error: "",
        }

    def _submit(self, kind: str, *fields: Any) -> Updates:
        """Check each field, and have the work done if all are right."""
        request = _request(fields)
        shown: Updates = {self.checkpoint_error: "", self.what_error: "", self.output_error: ""}
        checks: list[tuple[Any, Any]] = [
            (self.checkpoint_error, lambda: self._folders.to_read(request.checkpoint)),
            (self.what_error, lambda: request.recipe(self._folders)),
        ]
        if kind == "write":
            checks.append((self.output_error, lambda: work.require_free(self._folders, request)))
        for place, check in checks:
            try:
                check()
            except MISTAKES as error:
                shown[place] = markup.error(describe_error(error))
        if not any(shown.values()):
            does = {"try": work.try_out, "look": work.draw, "write": work.write}[kind]
            title = _title(kind, request)
            self._jobs.submit(kind, title, partial(does, self._folders, request), request.fields())
            shown |= {self.tried: ""} if kind == "try" else {}
            shown |= {self.drawn: ""} if kind == "look" else {}
        return shown


def _request(fields: tuple[Any, ...]) -> Request:
    """Return what the fields hold; one that nobody touched holds None."""
    checkpoint, recipes, pairs, strength, output, replace, *texts = fields
    return Request(
        checkpoint or "",
        tuple(recipes or ()),
        tuple(pairs or ()),
        strength,
        (output or "").strip(),
        bool(replace),
        *(text or "" for text in texts),
    )


def _title(kind: str, request: Request) -> str:
    names = [*(Path(r).stem for r in request.recipes), *(pair_of(p)[0] for p in request.pairs)]
    what = f"{', '.join(names)} in {Path(request.checkpoint).name}"
    return {"try": f"Trying {what}", "look": f"Drawing {what}", "write": f"Writing {what}"}[kind]
