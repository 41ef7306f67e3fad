"""The way from a checkpoint to a release: what each field and each button does."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

import erasepro_convert as erasepro
from erasepro_convert.errors import describe_error
from erasepro_convert.ui import erase_results, markup, work
from erasepro_convert.ui.erase_fields import EraseFields
from erasepro_convert.ui.folders import MISTAKES, Folders
from erasepro_convert.ui.jobs import Job, Jobs
from erasepro_convert.ui.request import Request, load_recipes, pair_of, pair_text
from erasepro_convert.ui.updates import QUIET, Updates, paths, recipe_choices

TAKE_ADVICE = """(advice, output, strength) => advice === null ? [output, strength] : [
    [advice.before, ""].includes((output ?? "").trim()) ? advice.output : output,
    advice.strength !== null && strength === advice.seen ? advice.strength : strength,
]"""
EMPTY_IF_ADDED = "(added, target) => (target ?? '').trim() === added ? '' : target"
"""What the browser does with an answer: what was typed since the question stays."""
COPY = "text => { navigator.clipboard.writeText(text); }"


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
        # One event for all three: Gradio has several at one change wake each other without end.
        gr.on(
            [field.change for field in (self.checkpoint, self.recipes, self.pairs)],
            self._advise, [self.advice, *self.request],
            [self.checkpoint_error, self.facts, self.advice],
            trigger_mode="always_last", **QUIET,
        ).then(
            None, [self.advice, self.output, self.strength], [self.output, self.strength],
            js=TAKE_ADVICE,
        ).then(
            self._plan, self.request, [self.draw_note, self.draw_all],
            trigger_mode="always_last", **QUIET,
        )  # fmt: skip
        self.find.click(
            self._find, [self.checkpoint, self.target],
            [self.checkpoint_error, self.what_error], **QUIET,
        )  # fmt: skip
        self.add.click(
            self._add, [self.target, self.anchor, self.synonyms, self.pairs],
            [self.pairs, self.added, self.synonyms, self.words_note, self.what_error], **QUIET,
        ).then(None, [self.added, self.target], [self.target], js=EMPTY_IF_ADDED)  # fmt: skip
        errors = [self.checkpoint_error, self.what_error, self.output_error]
        for button, kind, does in (
            (self.try_button, "try", work.try_out), (self.draw_button, "look", work.draw_or_time),
            (self.draw_all, "look", work.draw), (self.write_button, "write", work.write),
        ):  # fmt: skip
            button.click(partial(self._submit, kind, does), self.request, errors, **QUIET)
        self.copy.click(None, [self.yaml], None, js=COPY)
        # Done by the browser alone: an answer could come after the next choice.
        self.start_over.click(None, None, self.outputs, js=f"() => ({json.dumps(self.cleared())})")

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
                return self.filled(job.request.values())
        return {}

    def begun(self, job: Job) -> Updates:
        """Return what is seen once a job of this tab has been accepted."""
        return erase_results.begun(self, job)

    def ended(self, job: Job) -> Updates:
        """Return what is seen once a job of this tab is over."""
        return erase_results.ended(self, job)

    def _advise(self, before: dict[str, Any] | None, *fields: Any) -> Updates:
        """Say what a checkpoint is, and suggest an output and a strength."""
        before, request = before or {}, _request(fields)
        is_new = request.checkpoint != before.get("checkpoint", "")
        shown = self._inspected(request.checkpoint) if is_new else {}
        recipes = list(request.recipes)
        return shown | {
            self.advice: {
                "checkpoint": request.checkpoint,
                "recipes": recipes,
                "before": before.get("output", ""),
                "output": request.suggested_output(),
                "seen": request.strength,
                "strength": None if recipes == before.get("recipes", []) else self._own(recipes),
            }
        }

    def _inspected(self, checkpoint: str) -> Updates:
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

    def _plan(self, *fields: Any) -> Updates:
        """Say what drawing takes; how long it takes on a processor alone, the button measures."""
        shown: Updates = {self.draw_note: "", self.draw_all: gr.update(visible=False)}
        request = _request(fields)
        try:
            recipe = request.recipe(self._folders)
            plan = erasepro.plan_preview(recipe, self._folders.to_read(request.checkpoint))
        except MISTAKES:
            return shown  # beside its own field the mistake is shown when it is used
        each = f"{plan.pictures} pictures of {plan.size} pixels before, and as many after"
        takes = (
            "it takes seconds here."
            if plan.is_quick
            else "on the processor alone, which takes long. The button first measures how long."
        )
        return shown | {self.draw_note: markup.note(f"{each}: {takes}")}

    def _own(self, recipes: list[str]) -> float | None:
        """Return the strength of recipes that set one."""
        try:
            own = load_recipes(self._folders, recipes).strength if recipes else 1
        except MISTAKES:
            return None
        return own if own != 1 else None

    def _find(self, checkpoint: str | None, target: str | None) -> Updates:
        try:
            self._folders.to_read(checkpoint or "")
        except MISTAKES as error:
            return {self.checkpoint_error: markup.error(error), self.what_error: ""}
        target = (target or "").strip()
        if not target:
            return self._no_words()
        wanted = partial(work.find_words, self._folders, checkpoint or "", target)
        self._jobs.submit("words", f"Finding words like {target}", wanted, {"word": target})
        return {self.what_error: gr.skip()}

    def _no_words(self) -> Updates:
        return {self.what_error: markup.error("write the words to erase first")}

    def _add(
        self,
        target: str | None,
        anchor: str | None,
        synonyms: list[str] | None,
        pairs: list[str] | None,
    ) -> Updates:
        target = (target or "").strip()
        if not target:
            return self._no_words()
        added = [pair_text(word, anchor or "") for word in (target, *(synonyms or []))]
        listed = list(dict.fromkeys([*(pairs or []), *added]))
        return {
            self.pairs: gr.update(choices=listed, value=listed, visible=True),
            self.added: target,
            self.synonyms: gr.update(choices=[], value=[], visible="hidden"),
            self.words_note: "",
            self.what_error: "",
        }

    def _submit(self, kind: str, does: Callable[..., Any], *fields: Any) -> Updates:
        """Check each field, and have the work done if all are right; ``begun`` clears the rest."""
        request = _request(fields)
        checks: list[tuple[Any, Any]] = [
            (self.checkpoint_error, lambda: self._folders.to_read(request.checkpoint)),
            (self.what_error, lambda: request.recipe(self._folders)),
        ]
        if kind == "write":
            checks.append((self.output_error, lambda: work.require_free(self._folders, request)))
        mistakes: Updates = {}
        for place, check in checks:
            try:
                check()
            except MISTAKES as error:
                mistakes[place] = markup.error(describe_error(error))
        if mistakes:
            places = (self.checkpoint_error, self.what_error, self.output_error)
            return dict.fromkeys(places, "") | mistakes
        self._jobs.submit(
            kind, _title(kind, request), partial(does, self._folders, request), request.fields()
        )
        return {self.what_error: gr.skip()}


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
