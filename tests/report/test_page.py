"""The report of a manifest: complete, escaped, self-contained, the same each time."""

import re
from pathlib import Path

import pytest
from markupsafe import escape

from erasepro_convert.manifest import Manifest, edited_layers, read_manifest
from erasepro_convert.manifest.remarks import remarks
from erasepro_convert.manifest.verdict import verdict
from erasepro_convert.manifest.ways_back import WAYS_BACK
from erasepro_convert.report.page import html
from tests.conftest import VAN_GOGH, Cli, WriteRecipe, copy_of_demo

KINDS = ("json", "csv", "png")


@pytest.fixture
def manifest(cli: Cli, write_recipe: WriteRecipe, checkpoint_file: Path, tmp_path: Path) -> Path:
    text = VAN_GOGH.replace("target: Van Gogh", "target: <script>alert(1)</script>")
    text += "probe: {prompts: ['{} & <b>co</b>'], others: ['a <i>house</i>']}\n"
    target = tmp_path / "out.safetensors"
    assert cli("--quiet", write_recipe(text), checkpoint_file, target).code == 0
    return target.with_suffix(".manifest.json")


def test_the_page_holds_what_the_manifest_says(cli: Cli, manifest: Path, tmp_path: Path) -> None:
    ran = cli("report", manifest)
    assert (ran.code, ran.out) == (0, f"wrote {tmp_path / 'out.html'}\n")
    page = (tmp_path / "out.html").read_text("utf-8")
    record = read_manifest(manifest)
    assert record.output.files[0].sha256 in page
    assert str(record.input.files[0].sha256) in page
    for edit in record.edits:
        assert f"<td>{edit.layer}</td>" in page
    assert f"{record.probe.leak[0].mean:.2f}" in page
    (reach,) = record.probe.reach
    row = f"<td>reach of {escape(reach.concept)}</td><td>any</td>"
    assert f'{row}<td>1</td><td class="n">{reach.reach:.2f}</td>' in page
    assert page.count("<svg") == 1
    found = verdict(record)
    for said in (*(check.what for check in found.checks), found.changes, *found.warnings):
        assert str(escape(said)) in page
    assert f"AutoV2 <code>{found.autov2}</code>" in page
    assert f"<code>{record.output.tensors_digest}</code>" in page


def test_the_page_has_all_that_details_say(
    cli: Cli, van_gogh: Path, checkpoint_file: Path, tmp_path: Path
) -> None:
    """Figures may have other digits there."""
    ran = cli("--details", van_gogh, checkpoint_file, tmp_path / "out.safetensors")
    cli("report", tmp_path / "out.manifest.json")
    page = (tmp_path / "out.html").read_text("utf-8")
    record = read_manifest(tmp_path / "out.manifest.json")
    said = [*record.variant.evidence, *map(str, remarks(record)), record.output.files[0].sha256]
    assert len(said) > 5
    for text in said:
        assert text in ran.out
        assert str(escape(text)) in page
    for layer in edited_layers(record.edits):
        for figure in (f"{layer.residual_before:.1e}", f"{layer.residual_after:.1e}"):
            assert figure in ran.out
            assert figure in page


def test_the_page_is_escaped_and_asks_for_nothing(cli: Cli, manifest: Path, tmp_path: Path) -> None:
    cli("report", manifest)
    page = (tmp_path / "out.html").read_text("utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<b>co" not in page
    assert "<i>house" not in page
    assert not re.findall(r"(?:src|href)=.(?!#)", page), "no reference leads out of the page"
    assert not re.findall(r"url\((?!#)", page)


@pytest.mark.slow
def test_the_same_manifest_gives_the_same_page(cli: Cli, manifest: Path, tmp_path: Path) -> None:
    for name in ("a.html", "b.html"):
        assert cli("report", manifest, "--out", tmp_path / name).code == 0
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_the_page_names_the_known_ways_back(manifest: Path) -> None:
    page = html(read_manifest(manifest))
    for way in WAYS_BACK:
        assert str(escape(way.name)) in page
        assert str(escape(way.description)) in page


def test_commands_to_copy_quote_names_for_the_shell(manifest: Path) -> None:
    record = read_manifest(manifest)
    output = record.output.model_copy(update={"name": "my out; reboot.safetensors"})
    source = record.input.model_copy(update={"name": "$(in).ckpt"})
    page = html(record.model_copy(update={"output": output, "input": source}))
    name, base = escape("'my out; reboot.safetensors'"), escape("'$(in).ckpt'")
    assert f"erasepro-convert verify {name}\n" in page
    assert f"verify {name} --base {base} --replay" in page


def test_the_charts_alone(cli: Cli, manifest: Path, tmp_path: Path) -> None:
    target = tmp_path / "charts.png"
    assert cli("report", manifest, "--out", target).code == 0
    assert target.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_burden_is_drawn_where_the_original_is_given(
    cli: Cli, manifest: Path, checkpoint_file: Path, tmp_path: Path
) -> None:
    """It takes solves that no conversion makes (Fig. 2d)."""
    cli("report", manifest, "--out", tmp_path / "plain.html")
    ran = cli("report", manifest, "--out", tmp_path / "full.html", "--base", checkpoint_file)
    assert (ran.code, ran.err) == (0, "")
    plain, full = ((tmp_path / f"{name}.html").read_text("utf-8") for name in ("plain", "full"))
    title = "update that each cross-attention matrix alone would need"
    assert title not in plain
    assert title in full
    other = cli(
        "report", manifest, "--out", tmp_path / "other.html", "--base", tmp_path / "out.safetensors"
    )
    assert other.code == 2
    assert "not what this was made from" in other.err
    assert not (tmp_path / "other.html").exists()


@pytest.mark.slow
@pytest.mark.parametrize("layers", ["{unet: none}", "{text_encoder: none, unet: mid}"])
def test_half_an_edit_has_a_report(
    layers: str,
    cli: Cli,
    write_recipe: WriteRecipe,
    checkpoint_file: Path,
    tmp_path: Path,
) -> None:
    target = tmp_path / "half.safetensors"
    recipe = write_recipe(VAN_GOGH + f"layers: {layers}\n")
    assert cli("--quiet", recipe, checkpoint_file, target).code == 0
    assert cli("report", target.with_suffix(".manifest.json")).code == 0


@pytest.mark.parametrize(
    ("content", "said"),
    [("{}", "not a manifest: tool: field required"), ("nothing", "not a manifest: the file: ")],
)
def test_what_is_no_manifest(cli: Cli, tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "some.json"
    path.write_text(content)
    ran = cli("report", path)
    assert ran.code == 2
    assert said in ran.err


def test_another_kind_of_report(cli: Cli, manifest: Path, tmp_path: Path) -> None:
    ran = cli("report", manifest, "--out", tmp_path / "report.pdf")
    assert ran.code == 2
    assert "report.pdf: the file's name must end in .html or .png" in ran.err


def test_a_manifest_reads_back(manifest: Path) -> None:
    record = read_manifest(manifest)
    assert Manifest.model_validate_json(record.to_json()) == record


@pytest.mark.parametrize(
    ("name", "beside"),
    [
        ("sd-v1.5/", "sd-v1.5"),
        ("a.b/", "a.b"),
        ("plain/", "plain"),
        ("model.v2.safetensors", "model.v2"),
        ("x.ckpt.safetensors", "x.ckpt"),
    ],
)
@pytest.mark.slow
def test_each_command_finds_what_others_put_beside_an_output(
    name: str, beside: str, cli: Cli, write_recipe: WriteRecipe, tmp_path: Path
) -> None:
    """A dot in a name is no suffix: pictures and evaluation are on the page."""
    base = copy_of_demo(tmp_path)
    recipe = write_recipe(VAN_GOGH + "evaluate: {steps: 1, seeds: 1, others: [a cat]}\n")
    assert cli("--quiet", recipe, base, f"{tmp_path}/{name}").code == 0
    output = tmp_path / name
    record = (
        output / "manifest.json" if name.endswith("/") else tmp_path / f"{beside}.manifest.json"
    )
    asked = ("--base", base, "--quiet")
    assert cli("evaluate", recipe, output, *asked).code == 0
    drawn = cli("preview", output, "--recipe", recipe, *asked, "--seeds", 1, "--steps", 1)
    assert (drawn.code, drawn.err) == (0, "")
    ran = cli("report", record)
    assert (ran.code, ran.out, ran.err) == (0, f"wrote {tmp_path / beside}.html\n", "")
    page = (tmp_path / f"{beside}.html").read_text("utf-8")
    assert "<h2>Before and after</h2>" in page
    assert "<h2>Judged on pictures</h2>" in page
    names = {path.name for path in tmp_path.glob(f"{beside}.*")}
    endings = ("html", "before-after.png", "pictures", *(f"evaluation.{k}" for k in KINDS))
    assert names - {output.name, record.name} == {f"{beside}.{ending}" for ending in endings}
