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
from erasepro_convert.ui.work import Seconds, Written

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
    "time": "drawing some steps, to see how long they take",
    "batch": "files",
}
LEAST_SHARE = 0.02
"""The share of a stage that must be done before its time left is estimated."""
USABLE = "() => { document.getElementById('tabs').inert = false; }"
"""Until the fields are as they were (``HEAD``), nobody can fill them: it would be overwritten."""
ENDS = {"done": "done", "failed": "failed", "cancelled": "cancelled, nothing was written"}
CANCELLED_BATCH = "cancelled, what was finished stays"


def build_page(folders: Folders, jobs: Jobs) -> gr.Blocks:
    """Return the page; what it has done is in ``jobs``, whoever looks at it."""
    with gr.Blocks(analytics_enabled=False, title="erasepro-convert") as page:
        gr.HTML("<h1>Take concepts out of a checkpoint</h1>")
        with gr.Row(elem_id="at-work"):
            now = gr.HTML(now_text(jobs), elem_id="now")
            cancel = gr.Button("Cancel", visible=False, elem_id="cancel", variant="stop")
        with gr.Tabs(elem_id="tabs"):
            with gr.Tab("Erase"):
                erase = EraseTab(folders, jobs)
            with gr.Tab("Batch"):
                batch = BatchTab(folders, jobs)
            with gr.Tab("Verify"):
                verify = VerifyTab(folders, jobs)
        tabs = (erase, batch, verify)
        outputs = [now, cancel, *(output for tab in tabs for output in tab.outputs)]
        seen, known = gr.State(-1), gr.State({})

        def news(seen_revision: int, ended: dict[int, bool]) -> Any:
            """Return what has changed since this page last looked.

            It alone says what comes of a job: answers of several events could overtake each other.
            ``ended`` says of each job that was seen whether it was over.
            """
            revision = jobs.revision
            if revision == seen_revision:
                return {seen: revision}
            updates: Updates = {now: now_text(jobs), cancel: gr.update(visible=bool(jobs.open()))}
            updates |= batch.growing()
            every = jobs.all()
            now_ended = {job.number: job.is_over for job in every}
            for job in {job.kind: job for job in every}.values():  # the latest of each kind
                (tab,) = (tab for tab in tabs if job.kind in tab.kinds)
                updates |= tab.begun(job) if job.number not in ended else {}
                if now_ended[job.number] and not ended.get(job.number):
                    updates |= tab.ended(job)
            return updates | {seen: revision, known: now_ended}

        def opened() -> Any:
            """Return the choices, the fields as they were, and what came of the jobs so far."""
            updates: Updates = news(-1, {})
            for tab in tabs:
                for update in (tab.choices(), tab.restored()):
                    for component, properties in update.items():
                        updates[component] = {**updates.get(component, {}), **properties}
            return updates

        def stop() -> None:
            for job in jobs.open()[:1]:
                jobs.cancel(job.number)

        outputs += [seen, known]
        page.load(opened, None, outputs, **QUIET).then(None, js=USABLE)
        gr.Timer(NEWS_INTERVAL).tick(news, [seen, known], outputs, **HIDDEN)
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
        end = ENDS[last.state]
        if (last.kind, last.state) == ("batch", "cancelled"):
            end = CANCELLED_BATCH
        match last.result:
            case Written(missing=missing) if missing:
                end = f"the checkpoint is written, but not its {', '.join(missing).lower()}"
            case Seconds():
                end = "timed, and not drawn yet"
        return f'<p data-job="{last.number}">{markup.text(last.title)}: {end}.</p>'
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
