"""Many checkpoints at once: a table that grows, and a batch that goes on where it stopped."""

from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

import erasepro_convert as erasepro
from erasepro_convert.errors import RecipeError, describe_error
from erasepro_convert.ui import markup, work
from erasepro_convert.ui.folders import MISTAKES, Folders
from erasepro_convert.ui.jobs import Job, Jobs
from erasepro_convert.ui.updates import QUIET, Updates, paths, recipe_choices


class BatchTab:
    """Recipes, checkpoints, the folder that outputs go to, and how each file ended."""

    kinds = ("batch",)

    def __init__(self, folders: Folders, jobs: Jobs) -> None:
        """Lay out the tab, inside of ``gr.Blocks``."""
        self._folders, self._jobs = folders, jobs
        gr.HTML("<h2>Erase from many checkpoints</h2>")
        self.recipes = gr.Dropdown(
            [],
            multiselect=True,
            label="Recipes for the batch",
            elem_id="batch-recipes",
            info="Each recipe makes an output of its own of each checkpoint.",
        )
        self.recipes_error = gr.HTML()
        self.inputs = gr.Dropdown(
            [],
            multiselect=True,
            allow_custom_value=True,
            label="Checkpoints",
            elem_id="batch-inputs",
            info="Files, or a folder for all checkpoints below it.",
        )
        self.inputs_error = gr.HTML()
        self.folder = gr.Textbox(
            label="Output folder",
            elem_id="batch-folder",
            max_lines=1,
            info="What was done there before is not done again: the same batch goes on.",
        )
        self.folder_error = gr.HTML()
        button = gr.Button("Start or go on", variant="primary", elem_id="batch-start")
        self.table = gr.HTML(elem_id="outcomes")
        fields = [self.recipes, self.inputs, self.folder]
        self._errors = [self.recipes_error, self.inputs_error, self.folder_error]
        button.click(self._submit, fields, self._errors, **QUIET)
        self.outputs = [*fields, *self._errors, self.table]

    def choices(self) -> Updates:
        """Return the recipes and the checkpoints that there are to choose from."""
        return {
            self.recipes: gr.update(choices=recipe_choices(self._folders)),
            self.inputs: gr.update(
                choices=paths([*self._folders.roots, *self._folders.checkpoints()])
            ),
            self.folder: gr.update(value=str(self._folders.roots[0] / "erased")),
        }

    def restored(self) -> Updates:
        """Return the fields as they were when the last batch was submitted."""
        job = self._jobs.latest("batch")
        if not job:
            return {}
        asked = job.request
        return {
            self.recipes: gr.update(value=asked["recipes"]),
            self.inputs: gr.update(value=asked["inputs"]),
            self.folder: gr.update(value=asked["folder"]),
        }

    def growing(self) -> Updates:
        """Return the outcomes so far of the batch that runs or ran last."""
        job = self._jobs.latest("batch")
        return {self.table: _table(job)} if job else {}

    def begun(self, job: Job) -> Updates:
        """Return what is seen once a batch has been accepted."""
        return dict.fromkeys(self._errors, "") | {self.table: _table(job)}

    def ended(self, job: Job) -> Updates:
        """Return what is seen once a batch is over."""
        shown: Updates = {self.table: _table(job)}
        if job.error:
            place = self.recipes_error if isinstance(job.error, RecipeError) else self.inputs_error
            shown[place] = markup.error(describe_error(job.error))
        return shown

    def _submit(
        self, recipes: list[str] | None, inputs: list[str] | None, folder: str | None
    ) -> Updates:
        recipes, inputs, folder = recipes or [], inputs or [], (folder or "").strip()
        mistakes: Updates = {}
        checks: list[tuple[Any, Any]] = [
            (self.recipes_error, lambda: work.load_recipes(self._folders, recipes)),
            (self.inputs_error, lambda: [self._folders.to_read(path) for path in inputs or [""]]),
            (self.folder_error, lambda: self._folders.folder_to_write(folder)),
        ]
        for place, check in checks:
            try:
                check()
            except MISTAKES as error:
                mistakes[place] = markup.error(describe_error(error))
        if mistakes:
            return dict.fromkeys(self._errors, "") | mistakes
        outcomes: list[erasepro.Entry] = []
        does = partial(work.run_batch, self._folders, recipes, inputs, folder, outcomes)
        asked = {"recipes": recipes, "inputs": inputs, "folder": folder, "outcomes": outcomes}
        title = f"Erasing {', '.join(Path(recipe).stem for recipe in recipes)} from a batch"
        self._jobs.submit("batch", title, does, asked)
        return {self.recipes_error: gr.skip()}


def _table(job: Job) -> str:
    outcomes = job.request["outcomes"]
    return markup.outcomes(list(outcomes)) if outcomes else ""
