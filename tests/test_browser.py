"""The pages in a real browser: they ask nobody for anything, show their pictures, fit a phone."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from erasepro_convert.batch.summary import write_summary
from tests.batch.test_summary import entry
from tests.conftest import CHROMIUM, VAN_GOGH, Cli, WriteRecipe

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
]


@pytest.fixture
def page_file(cli: Cli, write_recipe: WriteRecipe, checkpoint_file: Path, tmp_path: Path) -> Path:
    """A report with pictures, of a recipe that would run a script if it could."""
    evil = "target: <script>document.title = 'ran'</script>"
    recipe = write_recipe(VAN_GOGH.replace("target: Van Gogh", evil))
    target = tmp_path / "out.safetensors"
    assert cli("--quiet", recipe, checkpoint_file, target).code == 0
    Image.new("RGB", (1200, 300), "teal").save(tmp_path / "out.before-after.png")
    assert cli("report", tmp_path / "out.manifest.json").code == 0
    return tmp_path / "out.html"


@pytest.mark.parametrize("width", [400, 1000])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("scripts", [True, False])
def test_the_report_in_a_browser(
    width: int, scheme: Any, scripts: bool, browser: Any, page_file: Path
) -> None:
    context = browser.new_context(
        viewport={"width": width, "height": 800},
        color_scheme=scheme,
        java_script_enabled=scripts,
    )
    page = context.new_page()
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(page_file.as_uri())
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [page_file.as_uri()]
    assert page.title() == "van-gogh: out.safetensors"
    assert page.get_by_role("heading", name="How to verify").is_visible()
    box = page.locator("svg").first.bounding_box()
    assert box["width"] > 300
    assert box["height"] > 300
    if scripts:
        assert page.evaluate("document.scripts.length") == 0
        loaded = "Array.from(document.images).map(i => i.complete && i.naturalWidth)"
        assert page.evaluate(loaded) == [1200]
        root = "document.documentElement"
        assert page.evaluate(f"{root}.scrollWidth <= {root}.clientWidth"), "no sideways scroll"
        colour = page.evaluate("getComputedStyle(document.body).color")
        assert (colour == "rgb(255, 255, 255)") == (scheme == "dark")
    context.close()


@pytest.mark.parametrize("width", [400, 1000])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_batchs_page_in_a_browser(width: int, scheme: Any, browser: Any, tmp_path: Path) -> None:
    name = f"folder/{'long' * 40}-{'name ' * 20}.safetensors"
    entries = [entry(name), entry(f"b{name}", "exceeded"), entry("c/", "linked", same_as=name)]
    write_summary(tmp_path, {one.output: one for one in entries})
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto((tmp_path / "batch.html").as_uri())
    for details in page.locator(".files summary").all():
        details.click()
    assert page.get_by_text("a" * 64).first.is_visible()
    assert asked == [(tmp_path / "batch.html").as_uri()]
    root = "document.documentElement"
    assert page.evaluate(f"{root}.scrollWidth <= {root}.clientWidth"), "no sideways scroll"
    context.close()
