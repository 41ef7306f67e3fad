"""The page in a real browser: from a file to a release, and everything that can go wrong."""

import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from erasepro_convert import demo, load_recipe, read_manifest
from tests.conftest import CHROMIUM, Cli

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
]
LONG = 180_000
"""Milliseconds that a conversion of the demo model may take on a busy machine."""
SNOOPY = "version: 1\nname: snoopy\nconcepts: [{target: snoopy, anchor: dog}]\n"
STRICT = SNOOPY + "limits: {leak: 0.001}\n"
MANY = "version: 1\nconcepts:\n" + "".join(
    f"  - {{target: house number {number}, anchor: house}}\n" for number in range(240)
)
"""A recipe that is at work for long enough to be cancelled."""
LATE = 700
LATE_ANSWERS = f"""
const soon = window.fetch, pause = () => new Promise(over => setTimeout(over, {LATE}));
window.fetch = async (...asked) => {{
    const answer = await soon(...asked);
    if (String(asked[0].url ?? asked[0]).includes("run/predict"))
        do await pause(); while (!window.answers);
    return answer;
}};
"""
"""Has the page wait so many milliseconds more for each answer, and for any until ``answers``."""
HOSTILE = "<img src=x onerror=document.title='ran'>"
ESCAPED = "${document.title='ran'} {{value}} <script>document.title='ran'</script>"


@dataclass
class Server:
    """The page's address, the folder that it may use, and its process."""

    address: str
    folder: Path
    process: "subprocess.Popen[str]"


def expect(locator: Any) -> Any:
    """Expect something of an element, now or soon."""
    from playwright.sync_api import expect

    expect.set_options(timeout=60_000)
    return expect(locator)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("page")
    with demo.checkpoint() as model:
        shutil.copy(model, folder / "demo.safetensors")
    for name, text in (("snoopy", SNOOPY), ("strict", STRICT), ("many", MANY)):
        (folder / f"{name}.yaml").write_text(text, "utf-8")
    (folder / "broken.ckpt").write_bytes(b"this is no checkpoint")
    shutil.copy(folder / "broken.ckpt", folder / f"{HOSTILE}.ckpt")
    command = [sys.executable, "-m", "tests.ui.without_network", "ui", "--no-browser"]
    with (
        (folder / "stderr").open("w") as errors,
        subprocess.Popen(
            [*command, "--folder", str(folder)], stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        assert process.stdout
        found = re.search(r"http://127\.0\.0\.1:\d+/\?token=\S+", process.stdout.readline())
        assert found, (folder / "stderr").read_text()
        yield Server(found[0], folder, process)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    said = (folder / "stderr").read_text()
    assert "OUTSIDE" not in said
    assert "Traceback" not in said


@dataclass
class Watched:
    """A page, and what it said and asked for."""

    page: Any
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def watch(self) -> None:
        self.page.set_default_timeout(60_000)
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))

    @property
    def output(self) -> Any:
        """The field with the output's path."""
        return self.page.locator("#output").get_by_role("textbox")

    def choose(self, label: str, *values: str) -> None:
        box = self.page.get_by_label(label, exact=True)
        for value in values:
            box.click()
            box.fill(value)
            box.press("Enter")
        box.press("Escape")
        box.blur()

    def press(self, name: str) -> None:
        self.page.get_by_role("button", name=name).click()

    def does(self, name: str, end: str) -> None:
        """Press a button, and wait until the line above says how the job that it began ended."""
        last = self.page.evaluate("document.querySelector('#now [data-job]')?.dataset.job ?? ''")
        self.press(name)
        other = self.page.locator(f"#now [data-job]:not([data-job='{last}'])")
        other.filter(has_text=end).wait_for(timeout=LONG)

    def stop(self) -> None:
        """Cancel what is at work: the next test has the same queue."""
        self.page.wait_for_function(STOPPED, polling=200, timeout=LONG)

    def wait_for(self, text: str) -> None:
        self.page.get_by_text(text).filter(visible=True).first.wait_for(timeout=LONG)

    def heading(self, text: str) -> None:
        self.page.get_by_role("heading", name=text, exact=True).first.wait_for(timeout=LONG)


Open = Callable[..., Watched]


@pytest.fixture
def open_page(server: Server, browser: Any) -> Iterator[Open]:
    """Open the page, as often as is needed; in the end none has complained or asked outside."""
    opened: list[Watched] = []

    def open_it(*, anew: bool = True, late: bool = False, **settings: Any) -> Watched:
        context = browser.new_context(**{"viewport": {"width": 1000, "height": 900}, **settings})
        watched = Watched(context.new_page())
        watched.watch()
        opened.append(watched)
        if late:
            context.add_init_script(LATE_ANSWERS)
        watched.page.goto(server.address)
        watched.page.get_by_role("heading", name="1. Choose a checkpoint").wait_for()
        if anew:
            watched.page.locator("#tabs:not([inert])").wait_for()
            watched.press("Start over")
        return watched

    yield open_it
    opened[-1].stop()
    for watched in opened:
        assert watched.said == []
        own = server.address.partition("?")[0]
        assert [url for url in watched.asked if not url.startswith((own, "data:", "blob:"))] == []
        watched.page.context.close()


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_the_way_from_a_file_to_a_release(open_page: Open, server: Server, cli: Cli) -> None:
    page = open_page()
    page.choose("Checkpoint", "demo.safetensors")
    page.wait_for("Nothing inside it was run")
    page.page.get_by_label("Words to erase").fill("snoopy")
    page.page.get_by_label("What they become").fill("dog")
    page.press("Find words that mean the same")
    page.wait_for("Mean the same to this checkpoint")
    page.page.get_by_role("checkbox", name="peanuts").check()
    page.press("Add to the list")
    page.wait_for("peanuts → dog")
    page.page.get_by_role("checkbox", name="peanuts → dog").uncheck()
    page.press("Try it")
    page.heading("It holds")
    page.page.get_by_text("Each prompt").first.click()
    assert page.page.get_by_role("columnheader", name="leak").first.is_visible()
    before = files(server.folder)
    page.press("Draw before and after")
    page.page.locator("#drawn img").wait_for(timeout=LONG)
    loaded = "image => image.decode().then(() => image.naturalWidth)"
    assert page.page.locator("#drawn img").evaluate(loaded) > 100
    assert files(server.folder) == before, "drawing leaves nothing behind"
    expect(page.output).to_have_value("demo-snoopy.safetensors")
    page.page.get_by_text("Who releases it").click()
    page.page.get_by_label("Author").fill("Jane <b>Doe</b>")
    page.press("Write the checkpoint")
    page.heading("Written")
    written = server.folder / "demo-snoopy.safetensors"
    manifest = read_manifest(written.with_suffix(".manifest.json"))
    assert [(c.target, c.anchor) for c in manifest.recipe.concepts] == [("snoopy", "dog")]
    assert manifest.output.files[0].sha256 in page.page.locator("#release").inner_text()
    recipe = server.folder / "kept.yaml"
    recipe.write_text(page.page.locator("#yaml").get_by_role("textbox").input_value(), "utf-8")
    assert load_recipe(recipe).digest == manifest.recipe_sha256
    assert page.page.evaluate(UNNAMED) == []
    recipe.unlink()
    with page.page.expect_popup() as opened:
        page.page.get_by_role("link", name="Report").click()
    report = Watched(opened.value)
    report.page.get_by_role("heading", name="How to verify").wait_for()
    assert cli("verify", written, "--base", server.folder / "demo.safetensors").code == 0


def test_a_release_is_verified(open_page: Open, server: Server, cli: Cli) -> None:
    """After a release was written by the page or, where it was not, by the command."""
    release = server.folder / "handed.safetensors"
    assert cli("--quiet", server.folder / "snoopy.yaml", server.folder / "demo.safetensors",
               release).code == 0  # fmt: skip
    page = open_page()
    page.page.get_by_role("tab", name="Verify").click()
    page.choose("Release", "handed.safetensors")
    page.choose("Original (optional)", "demo.safetensors")
    page.page.get_by_label("Run the recipe again").check()
    page.press("Verify")
    page.heading("It is what its manifest says")
    page.wait_for("replay: the recipe gives the same again")
    assert cli("evidence", "--quiet", release).code == 0
    page.page.get_by_label("Run the recipe again").uncheck()
    page.choose("Release", "handed.evidence.zip")
    page.press("Verify")
    page.wait_for("evidence is verified alone")
    original = page.page.get_by_label("Original (optional)")
    original.fill("")
    original.blur()
    page.press("Verify")
    page.page.get_by_role("heading", name="files as the evidence says").wait_for(timeout=LONG)
    page.choose("Original (optional)", "demo.safetensors")
    page.choose("Release", "handed.safetensors")
    content = bytearray(release.read_bytes())
    content[-1] ^= 1
    release.write_bytes(content)
    page.press("Verify")
    page.page.get_by_role("heading", name=re.compile("deviations")).wait_for(timeout=LONG)
    assert page.page.get_by_role("rowheader", name="handed.safetensors").first.is_visible()
    page.choose("Release", "broken.ckpt")
    page.press("Verify")
    page.wait_for("broken.manifest.json: there is no such file")
    release.unlink()


def test_a_refused_file_is_said_beside_its_field(open_page: Open) -> None:
    page = open_page()
    page.choose("Checkpoint", "broken.ckpt")
    page.wait_for("it is neither a safetensors file nor a torch checkpoint")
    page.choose("Checkpoint", "/etc/passwd")
    page.wait_for("/etc/passwd: lies outside of the folders")
    page.choose("Checkpoint", "demo.safetensors")
    page.wait_for("Nothing inside it was run")
    assert page.page.get_by_role("alert").count() == 0
    page.press("Try it")
    page.wait_for("choose a recipe, or add words to the list")
    page.output.fill("/tmp/elsewhere.safetensors")
    page.press("Write the checkpoint")
    page.wait_for("/tmp/elsewhere.safetensors: lies outside")


def test_a_recipe_that_does_not_hold(open_page: Open, server: Server) -> None:
    page = open_page()
    page.choose("Checkpoint", "demo.safetensors")
    page.page.get_by_label("Recipes", exact=True).click()
    page.page.get_by_role("option", name="nudity: Undressed bodies").wait_for()
    page.choose("Recipes", "strict.yaml")
    before = files(server.folder)
    page.press("Try it")
    page.heading("It does not hold")
    page.heading("What to change")
    page.wait_for("leak is above the limit of 0.001")
    page.press("Write the checkpoint")
    page.page.get_by_role("alert").get_by_text("leak is above the limit of 0.001").wait_for(
        timeout=LONG
    )
    assert files(server.folder) == before


def test_a_write_that_is_cancelled_leaves_nothing(open_page: Open, server: Server) -> None:
    page = open_page()
    before = files(server.folder)
    page.choose("Checkpoint", "demo.safetensors")
    page.choose("Recipes", "many.yaml")
    expect(page.output).to_have_value("demo-many.safetensors")
    page.press("Write the checkpoint")
    page.page.get_by_role("progressbar").wait_for(timeout=LONG)
    page.press("Cancel")
    page.wait_for("Writing many in demo.safetensors: cancelled, nothing was written")
    assert files(server.folder) == before


def test_a_second_job_waits_and_a_closed_tab_kills_no_write(
    open_page: Open, server: Server
) -> None:
    page = open_page()
    page.choose("Checkpoint", "demo.safetensors")
    page.choose("Recipes", "many.yaml")
    page.press("Draw before and after")
    page.wait_for("Drawing many in demo.safetensors")
    page.press("Start over")
    page.choose("Checkpoint", "demo.safetensors")
    page.choose("Recipes", "snoopy.yaml")
    page.output.fill("first.safetensors")
    page.press("Write the checkpoint")
    page.wait_for("1 more waits")
    page.page.reload()
    page.said.clear()  # what Gradio says of connections that a reload ends
    page.wait_for("1 more waits")
    expect(page.output).to_have_value("first.safetensors")
    page.press("Cancel")
    page.page.locator("#now").get_by_text("Writing snoopy in demo.safetensors").wait_for()
    page.page.close()
    again = open_page(anew=False)
    again.wait_for("first.safetensors, 36.0 MB")
    assert (server.folder / "first.safetensors").exists()
    again.press("Write the checkpoint")
    again.wait_for("exists already")


def test_what_is_entered_stays_however_late_answers_come(open_page: Open) -> None:
    page = open_page(anew=False, late=True)
    tabs = page.page.locator("#tabs")
    expect(tabs).to_have_attribute("inert", "")
    page.page.evaluate("window.answers = true")
    expect(tabs).not_to_have_attribute("inert", "")
    page.press("Start over")
    page.choose("Checkpoint", "demo.safetensors")
    page.choose("Recipes", "many.yaml")
    words = page.page.get_by_label("Words to erase")
    words.fill("snoopy")
    page.press("Add to the list")
    words.fill("woodstock")
    page.wait_for("snoopy → (nothing)")
    expect(words).to_have_value("woodstock")
    page.press("Start over")
    page.choose("Checkpoint", "demo.safetensors")
    page.choose("Recipes", "snoopy.yaml")
    words.fill("peanuts")
    expect(page.output).to_have_value("demo-snoopy.safetensors")
    page.choose("Recipes", "strict.yaml")
    page.output.fill("mine.safetensors")
    page.page.wait_for_timeout(5 * LATE)
    expect(page.output).to_have_value("mine.safetensors")
    expect(page.page.get_by_label("Checkpoint", exact=True)).to_have_value("demo.safetensors")
    expect(words).to_have_value("peanuts")
    expect(page.page.locator("#recipes .token")).to_have_text(["snoopy.yaml", "strict.yaml"])
    page.press("Try it")
    page.heading("It does not hold")


def test_a_batch_with_a_broken_file(open_page: Open, server: Server) -> None:
    page = open_page()
    page.page.get_by_role("tab", name="Batch").click()
    page.choose("Recipes for the batch", "snoopy.yaml")
    page.choose("Checkpoints", "demo.safetensors", "broken.ckpt")
    page.page.get_by_label("Output folder").fill("erased")
    page.does("Start or go on", "from a batch: done.")
    table = page.page.get_by_role("region", name="Files")
    expect(table.get_by_text("refused")).to_be_visible()
    expect(table.get_by_text("done")).to_be_visible()
    output = server.folder / "erased" / "demo-snoopy.safetensors"
    written = output.stat().st_mtime_ns
    page.does("Start or go on", "from a batch: done.")
    expect(table.get_by_text("done")).to_be_visible()
    assert output.stat().st_mtime_ns == written, "it went on, and had nothing to do"


def test_hostile_names_and_prompts_are_shown_and_not_obeyed(open_page: Open) -> None:
    page = open_page()
    page.choose("Checkpoint", f"{HOSTILE}.ckpt")
    page.page.get_by_role("alert").get_by_text(HOSTILE).wait_for()
    page.choose("Checkpoint", "demo.safetensors")
    page.page.get_by_label("Words to erase").fill(ESCAPED)
    page.press("Add to the list")
    page.wait_for(f"{ESCAPED} → (nothing)")
    page.press("Try it")
    page.page.locator("#tried .verdict").wait_for(timeout=LONG)
    page.page.get_by_text("Each prompt").first.click()
    page.page.get_by_label("Words to erase").fill(HOSTILE)
    page.press("Find words that mean the same")
    page.wait_for(f"Finding words like {HOSTILE}: ")
    assert page.page.title() == "erasepro-convert"
    assert page.page.locator("img[src=x]").count() == 0


def test_a_page_without_the_token_is_refused(server: Server, browser: Any) -> None:
    context = browser.new_context()
    page = context.new_page()
    answer = page.goto(server.address.partition("?")[0])
    assert answer.status == 403
    assert "Open the address that erasepro-convert ui has printed" in page.content()
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_any_width_in_light_and_dark(scheme: str, open_page: Open) -> None:
    page = open_page(color_scheme=scheme)
    page.choose("Checkpoint", "/" + "long" * 50)
    page.page.get_by_role("alert").first.wait_for()
    root = "document.documentElement"
    for tab in ("Erase", "Batch", "Verify"):
        page.page.get_by_role("tab", name=tab).click()
        for width in (400, 1000, 1600):
            page.page.set_viewport_size({"width": width, "height": 900})
            page.page.wait_for_function(f"{root}.scrollWidth <= {root}.clientWidth")
    background = page.page.evaluate("getComputedStyle(document.body).backgroundColor")
    red = int(re.findall(r"\d+", background)[0])
    assert (red < 100) == (scheme == "dark")


def test_it_is_used_by_keyboard_and_read_aloud(open_page: Open) -> None:
    page = open_page()
    for tab in ("Batch", "Verify", "Erase"):
        page.page.get_by_role("tab", name=tab).click()
        unnamed = page.page.evaluate(UNNAMED)
        assert unnamed == [], tab
    page.page.get_by_label("Checkpoint", exact=True).focus()
    page.page.keyboard.type("demo.safetensors")
    page.page.keyboard.press("Enter")
    reached = []
    for _ in range(40):
        page.page.keyboard.press("Tab")
        name = page.page.evaluate("document.activeElement.innerText || ''")
        reached.append(name.strip())
        if reached[-1].startswith("Try it"):
            break
    assert "Add to the list" in reached
    page.page.keyboard.press("Enter")
    page.wait_for("choose a recipe, or add words to the list")
    status = page.page.locator("#now")
    assert status.get_attribute("role") == "status"
    assert status.get_attribute("aria-live") == "polite"


STOPPED = """() => {
    document.getElementById('cancel')?.click();
    return document.querySelector('#now progress') === null;
}"""
UNNAMED = """
Array.from(document.querySelectorAll('input, textarea, button, [role=tab]'))
    .filter(element => element.offsetParent !== null)
    .filter(element => !(element.labels && element.labels.length && element.labels[0].innerText))
    .filter(element => !element.getAttribute('aria-label') && !element.innerText.trim())
    .map(element => element.outerHTML.slice(0, 200))
"""
