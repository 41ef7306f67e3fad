"""A release that somebody was handed, held against its manifest."""

from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

import erasepro_convert as erasepro
from erasepro_convert.errors import describe_error
from erasepro_convert.ui import markup, work
from erasepro_convert.ui.folders import EVIDENCE, MISTAKES, Folders
from erasepro_convert.ui.jobs import Job, Jobs, Work
from erasepro_convert.ui.updates import QUIET, Updates, paths


class VerifyTab:
    """A release, its original where there is one, and every deviation."""

    kinds = ("verify",)

    def __init__(self, folders: Folders, jobs: Jobs) -> None:
        """Lay out the tab, inside of ``gr.Blocks``."""
        self._folders, self._jobs = folders, jobs
        gr.HTML("<h2>Is a release what its manifest says?</h2>")
        self.release = gr.Dropdown(
            [],
            value=None,
            label="Release",
            allow_custom_value=True,
            elem_id="release-to-verify",
            info="A checkpoint whose manifest lies beside it, or evidence: .evidence.zip.",
        )
        self.release_error = gr.HTML()
        self.base = gr.Dropdown(
            [],
            value=None,
            label="Original (optional)",
            allow_custom_value=True,
            elem_id="original",
            info="With it, what was not to change is compared, and every figure computed anew.",
        )
        self.base_error = gr.HTML()
        self.replay = gr.Checkbox(
            label="Run the recipe again, and compare the result with the release",
            elem_id="replay",
        )
        button = gr.Button("Verify", variant="primary", elem_id="verify")
        self.found = gr.HTML(elem_id="verified")
        fields = [self.release, self.base, self.replay]
        self._errors = [self.release_error, self.base_error]
        button.click(self._submit, fields, self._errors, **QUIET)
        self.outputs = [*fields, *self._errors, self.found]

    def choices(self) -> Updates:
        """Return the checkpoints and the evidence that there are to choose from."""
        found = paths(self._folders.checkpoints())
        releases = [*found, *paths(self._folders.evidence())]
        return {self.release: gr.update(choices=releases), self.base: gr.update(choices=found)}

    def restored(self) -> Updates:
        """Return the fields as they were when the last job was submitted."""
        job = self._jobs.latest("verify")
        if not job:
            return {}
        asked = job.request
        return {
            self.release: gr.update(value=asked["release"]),
            self.base: gr.update(value=asked["base"]),
            self.replay: gr.update(value=asked["replay"]),
        }

    def begun(self, _: Job) -> Updates:
        """Return what is seen once a verification has been accepted."""
        return dict.fromkeys([*self._errors, self.found], "")

    def ended(self, job: Job) -> Updates:
        """Return what is seen once a verification is over."""
        if job.state == "done":
            if isinstance(job.result, erasepro.VerifiedEvidence):
                return {self.found: markup.verified_evidence(job.result)}
            return {self.found: markup.verified(job.result)}
        if job.error:
            return {self.release_error: markup.error(describe_error(job.error))}
        return {}

    def _submit(self, release: str | None, base: str | None, replay: bool) -> Updates:
        release, base = release or "", base or ""
        is_evidence = release.endswith(EVIDENCE)
        mistakes: Updates = {}
        checks: list[tuple[Any, str]] = [(self.release_error, release)]
        if base or replay:
            checks.append((self.base_error, base))
        for place, path in checks:
            try:
                self._folders.to_read(path)
            except MISTAKES as error:
                mistakes[place] = markup.error(describe_error(error))
        if is_evidence and (base or replay):
            alone = "evidence is verified alone: leave the original empty and the recipe unticked"
            mistakes[self.base_error] = markup.error(alone)
        if mistakes:
            return dict.fromkeys(self._errors, "") | mistakes
        does: Work = partial(work.verify, self._folders, release, base, replay=bool(replay))
        if is_evidence:
            does = partial(work.verify_evidence, self._folders, release)
        asked = {"release": release, "base": base, "replay": bool(replay)}
        self._jobs.submit("verify", f"Verifying {Path(release).name}", does, asked)
        return {self.release_error: gr.skip()}
