"""The page: its tabs, what is at work above them, and the timer that brings news."""

from time import monotonic
from typing import Any

import gradio as gr

from erasepro_convert.ui import markup
from erasepro_convert.ui.batch_tab import BatchTab
from erasepro_convert.ui.erase_tab import EraseTab
from erasepro_convert.ui.folders import Folders
from erasepro_convert.ui.jobs import Job, Jobs
from erasepro_convert.ui.updates import HIDDEN, QUIET, Updates
from erasepro_convert.ui.verify_tab import VerifyTab

NEWS_INTERVAL = 0.5
"""Seconds between looks at what the jobs do."""
STAGES = {
    "": "starting",
    "check": "checking the file",
    "vocabulary": "reading the vocabulary",
    "language": "reading common words",
    "train": "training",
    "erase": "erasing",
    "probe": "measuring what is left",
    "hash": "reading the file",
    "write": "writing",
    "verify": "comparing",
    "draw": "drawing",
    "batch": "files",
}
LEAST_SHARE = 0.02
"""The share of a stage that must be done before its time left is estimated."""
ENDS = {"done": "done", "failed": "failed", "cancelled": "cancelled, nothing was written"}
CANCELLED_BATCH = "cancelled, what was finished stays"


def build_page(folders: Folders, jobs: Jobs) -> gr.Blocks:
    """Return the page; what it has done is in ``jobs``, whoever looks at it."""
    with gr.Blocks(analytics_enabled=False, title="erasepro-convert") as page:
        gr.HTML("<h1>Take concepts out of a checkpoint</h1>")
        with gr.Row(elem_id="at-work"):
            now = gr.HTML(now_text(jobs), elem_id="now")
            cancel = gr.Button("Cancel", visible=False, elem_id="cancel", variant="stop")
        with gr.Tabs():
            with gr.Tab("Erase"):
                erase = EraseTab(folders, jobs)
            with gr.Tab("Batch"):
                batch = BatchTab(folders, jobs)
            with gr.Tab("Verify"):
                verify = VerifyTab(folders, jobs)
        tabs = (erase, batch, verify)
        outputs = [now, cancel, *(output for tab in tabs for output in tab.outputs)]
        seen, over = gr.State(-1), gr.State([])

        def news(seen_revision: int, known: list[int]) -> Any:
            """Return what has changed since this page last looked."""
            revision = jobs.revision
            if revision == seen_revision:
                return {seen: revision}
            updates: Updates = {now: now_text(jobs), cancel: gr.Button(visible=bool(jobs.open()))}
            updates |= batch.growing()
            ended = [job for job in jobs.all() if job.is_over]
            latest = {job.kind: job for job in ended if job.number not in known}
            for job in latest.values():
                for tab in tabs:
                    updates |= tab.show(job) if job.kind in tab.kinds else {}
            return updates | {seen: revision, over: [job.number for job in ended]}

        def opened() -> Any:
            """Return the choices, and the fields as they were when the page was last used."""
            updates: Updates = {}
            for tab in tabs:
                for update in (tab.choices(), tab.restored()):
                    for component, properties in update.items():
                        updates[component] = {**updates.get(component, {}), **properties}
            return updates

        def stop() -> None:
            for job in jobs.open()[:1]:
                jobs.cancel(job.number)

        page.load(opened, None, outputs, **QUIET)
        gr.Timer(NEWS_INTERVAL).tick(
            news, [seen, over], [*outputs, seen, over], queue=False, **HIDDEN
        )
        cancel.click(stop, None, None, **QUIET)
    return page


def now_text(jobs: Jobs) -> str:
    """Say what is at work, how far it has come, and what waits; or how the last job ended."""
    at_work = jobs.open()
    if not at_work:
        done = jobs.all()
        if not done:
            return markup.note("Everything happens on this machine. Nothing is sent anywhere.")
        last = done[-1]
        end = (
            CANCELLED_BATCH
            if (last.kind, last.state) == ("batch", "cancelled")
            else ENDS[last.state]
        )
        return f"<p>{markup.text(last.title)}: {end}.</p>"
    job, *waiting = at_work
    queue = f" {len(waiting)} more {'waits' if len(waiting) == 1 else 'wait'}." if waiting else ""
    stage = "waiting" if job.state == "waiting" else STAGES.get(job.stage, job.stage)
    share = job.done / job.total if job.total else 0.0
    value = f' value="{share:.3f}"' if job.total else ""
    return (
        f"<p><strong>{markup.text(job.title)}</strong>: {markup.text(stage)}.{queue}</p>"
        f'<progress max="1"{value} aria-label="{markup.text(stage)}"></progress>'
        f'<p class="note" aria-hidden="true">{_left(job, share)}</p>'
    )


def _left(job: Job, share: float) -> str:
    """Return how much of a stage is done, and about how long the rest will take."""
    if not job.total:
        return "&nbsp;"
    amount = f"{share:.0%}"
    if job.stage == "draw" and LEAST_SHARE <= share < 1:
        seconds = (monotonic() - job.since) * (1 - share) / share
        amount += (
            f", about {seconds / 60:.0f} min left"
            if seconds > 90
            else f", about {seconds:.0f} s left"
        )
    return amount
