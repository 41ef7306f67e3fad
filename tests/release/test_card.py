"""Card and text for Civitai say what was measured, name what was not, and inject nothing."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import model_index_to_eval_results
from markdown_it import MarkdownIt

from erasepro_convert.attacks.names import DESCRIPTIONS
from erasepro_convert.manifest import EmaRecord, read_manifest
from erasepro_convert.manifest.verdict import verdict
from erasepro_convert.recipe.release import Release
from erasepro_convert.release.card import model_card
from erasepro_convert.release.civitai import civitai_text
from erasepro_convert.release.results import read_results
from tests.conftest import PROBED, Cli, WriteRecipe, copy_of_demo
from tests.release.measured import measure
from tests.test_start import SLOW, loaded

STATED = Release(
    title="Gone",
    description="No more of it.",
    author="A. Uthor",
    license="CreativeML OpenRAIL-M",
    tags=("painting",),
    base_model="CompVis/stable-diffusion-v1-4",
    purpose="The owner asked",
    reference="Request 17",
    responsible="Jane Doe",
    contact="jane@example.org",
    review="2027-01-31",
)
EVIL = "<script>alert(1)</script> | [x](javascript:alert(1)) `c`"
CIVITAI_TAGS = {"p", "strong", "a", "ul", "li", "code"}
"""What both kinds of Civitai's descriptions keep, and the texts use."""


class Reader(HTMLParser):
    """Collects tags, addresses and text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.addresses: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.addresses += [str(value) for name, value in attrs if name in ("href", "src")]

    def handle_data(self, data: str) -> None:
        self.text += data


def read_card(card: str) -> Reader:
    text = ModelCard(card).text
    return Reader(MarkdownIt("commonmark", {"html": True}).enable("table").render(text))


def texts(output: Path, release: Release = STATED) -> tuple[str, str]:
    results = read_results(output)
    return model_card(results, release), civitai_text(results, release)


def test_the_metadata_is_what_huggingface_hub_reads(erased: Path) -> None:
    measure(erased)
    card = ModelCard(texts(erased)[0])
    assert str(card).startswith("---\n")
    assert ModelCard(str(card)).data.to_dict() == card.data.to_dict()
    data = card.data.to_dict()
    assert data.pop("model-index")
    assert data == {
        "base_model": "CompVis/stable-diffusion-v1-4",
        "base_model_relation": "finetune",
        "library_name": "diffusers",
        "license": "creativeml-openrail-m",
        "pipeline_tag": "text-to-image",
        "tags": [
            "stable-diffusion",
            "concept-erasure",
            "erasepro-convert",
            "stable-diffusion-v1",
            "painting",
        ],
    }


def test_the_figures_are_those_of_the_files(erased: Path) -> None:
    measure(erased)
    data = ModelCard(texts(erased)[0]).data
    name, found = model_index_to_eval_results(data.to_dict()["model-index"])
    assert name == "Gone"
    evaluated, attacked = (
        json.loads(erased.with_suffix(f".{kind}.json").read_text("utf-8"))
        for kind in ("evaluation", "stress")
    )
    figures = [figure["erased"]["value"] for figure in evaluated["figures"]]
    recovered = [row["drawn"]["recovered"]["value"] for row in attacked["rows"]]
    assert [result.metric_value for result in found] == [*figures, *recovered]
    assert {result.task_type for result in found} == {"text-to-image"}
    assert [result.metric_type for result in found] == [
        "t-target-seen",
        "kid-o",
        *["recovered"] * 2,
    ]
    assert found[0].metric_name == "demo judge, Van Gogh, T: target seen"
    assert found[0].dataset_args == {"seeds": 2, **evaluated["settings"]}
    assert found[3].metric_name == "recovered, Van Gogh, merge: 1/2 erased"


def test_the_card_says_what_was_measured(erased: Path) -> None:
    measure(erased)
    read = read_card(texts(erased)[0])
    manifest = read_manifest(erased.with_suffix(".manifest.json"))
    for said in (
        "Gone",
        "No more of it.",
        "1.000\n0.125 (0.062 to 0.250)\n20 (10)",
        "–\n0.000\n20 (10)",  # −0.0001 to three places
        "merge: 1/2 erased",
        "0.500",
        "Other prompts: 1, about a fish.",
        "20 images: few",
        f"{max(m.mean for m in manifest.probe.leak):.2f}",
        manifest.output.files[0].sha256,
        manifest.output.files[0].autov2,
        manifest.manifest_sha256,
        "erasepro-convert verify out.safetensors --base mini.safetensors --replay",
        *(
            "Jane Doe",
            "jane@example.org",
            "The owner asked",
            "Request 17",
            "2027-01-31",
            "A. Uthor",
        ),
    ):
        assert said in read.text, said
    assert read.addresses == [
        "https://huggingface.co/CompVis/stable-diffusion-v1-4",
        "out.before-after.png",
        "out.manifest.json",
    ]
    tried = {"merge"}
    for attack, description in DESCRIPTIONS.items():
        assert (f"{attack}: {description}" in read.text) == (attack not in tried)


def test_nothing_is_stated_that_is_absent(erased: Path) -> None:
    card, civitai = texts(erased, Release())
    data = ModelCard(card).data.to_dict()
    assert not data.keys() & {"model-index", "license", "license_name", "base_model"}
    assert "base_model_relation" not in data
    read = read_card(card)
    assert "No attack was tried." in read.text
    for page in (read, Reader(civitai)):
        assert "No pictures were judged." in page.text
        assert "No attack was tried: whether somebody can get the targets back" in page.text
        for said in (
            "Judged on pictures",
            "Before and after",
            "Responsible",
            "Asked for by",
            "None",
        ):
            assert said not in page.text
    assert "img" not in read.tags
    assert "out.before-after.png" not in card
    assert all(f"{attack}: {words}" in read.text for attack, words in DESCRIPTIONS.items())


def test_attacks_without_pictures_have_distances_and_no_results(erased: Path) -> None:
    measure(erased, drawn=False)
    card, civitai = texts(erased)
    _, found = model_index_to_eval_results(ModelCard(card).data.to_dict()["model-index"])
    assert "recovered" not in {result.metric_type for result in found}
    text = read_card(card).text
    assert "merge: 1/2 erased\n0.75\n0.00\n–" in text
    assert "No pictures were drawn under attack." in text
    assert "merge: text features come to a distance of 0.75 from Van Gogh" in civitai


def test_an_attack_whose_targets_were_left_out_was_tried(erased: Path) -> None:
    measure(erased)
    path = erased.with_suffix(".stress.json")
    path.write_text(json.dumps(json.loads(path.read_bytes()) | {"rows": []}), encoding="utf-8")
    text = read_card(texts(erased)[0]).text
    assert f"merge: {DESCRIPTIONS['merge']}" not in text
    assert "No attack was tried on Van Gogh." in text
    assert "Van Gogh was left out: no prompt names it." in text


def test_what_was_not_tested_follows_from_what_is_absent(erased: Path) -> None:
    measure(erased)
    text = read_card(texts(erased)[0]).text
    assert "Not judged: CLIP score A." in text
    assert "No judge has a figure" not in text
    assert "Clip skip" not in text  # both were measured
    path = erased.with_suffix(".evaluation.json")
    data = json.loads(path.read_text("utf-8"))
    data["prompts"], data["figures"] = [], []
    path.write_text(json.dumps(data), encoding="utf-8")
    text = read_card(texts(erased)[0]).text
    for said in (
        "No judge has a figure for Van Gogh.",
        "No pictures were drawn of prompts that mean a target without naming it.",
        "No pictures of other things were drawn.",
    ):
        assert said in text


def test_both_say_what_the_verdict_says(
    cli: Cli, write_recipe: WriteRecipe, checkpoint_file: Path, tmp_path: Path
) -> None:
    for number, (limits, said) in enumerate(
        {
            "{leak: null, drift: null}": ("– Van Gogh: ", "– other prompts moved by "),
            "{leak: 99, drift: null}": ("✓ Van Gogh is erased: ", "– other prompts moved by "),
            "{leak: 99, drift: 99}": ("✓ Van Gogh is erased: ", "✓ other prompts stayed: "),
        }.items()
    ):
        text = re.sub(r"limits: .*", f"limits: {limits}", PROBED)
        output = tmp_path / f"{number}.safetensors"
        assert cli("--quiet", write_recipe(text), checkpoint_file, output).code == 0
        found = verdict(read_manifest(output.with_suffix(".manifest.json")))
        whole = [*(f"{check.mark} {check.what}" for check in found.checks), found.changes]
        card, civitai = texts(output)
        for text in (read_card(card).text, Reader(civitai).text):
            assert all(sentence in text for sentence in (*said, *whole, *found.warnings))


def test_the_table_has_the_worst_of_model_and_ema_copy(erased: Path) -> None:
    path = erased.with_suffix(".manifest.json")
    manifest = read_manifest(path)
    probe = manifest.probe
    leak = probe.leak[-1].model_copy(update={"mean": 9.25})
    reach = probe.reach[0].model_copy(update={"reach": 0.0})
    worse = probe.model_copy(update={"leak": (leak,), "reach": (reach,)})
    ema = EmaRecord(edits=(), probe=worse)
    path.write_text(manifest.model_copy(update={"ema": ema}).sealed().to_json(), encoding="utf-8")
    text = read_card(texts(erased)[0]).text
    assert re.search(r"leak of Van Gogh\n[^\n]*\n1.00\n9.25\n", text)
    row = f"reach of Van Gogh\nany, clip skip {reach.clip_skip}\n–\n"
    assert f"{row}0.00\n" in text
    assert text.count(row) == 1


def test_hostile_words_stay_words(
    cli: Cli, write_recipe: WriteRecipe, checkpoint_file: Path, tmp_path: Path
) -> None:
    text = PROBED.replace("target: Van Gogh", f"target: {json.dumps(EVIL)}")
    text = text.replace(
        "anchor: artist", "anchor: '<b>www.evil.example</b> ![x](http://evil.example)'"
    )
    output = tmp_path / "[o](u) '`<b>.safetensors"
    assert cli("--quiet", write_recipe(text), checkpoint_file, output).code == 0
    measure(output)
    for ending in (".evaluation.json", ".stress.json"):
        path = output.with_suffix(ending)
        evil = json.dumps(f"{EVIL}\n# head \u202e")[1:-1]
        path.write_text(
            path.read_text("utf-8")
            .replace("Van Gogh", json.dumps(EVIL)[1:-1])
            .replace("demo judge", evil)
            .replace("few", evil)
            .replace("a fish", evil),
            encoding="utf-8",
        )
    keys = ("title", "description", "author", "purpose", "reference", "responsible", "contact")
    card, civitai = texts(output, Release(license=EVIL, tags=(EVIL,), **dict.fromkeys(keys, EVIL)))
    read = read_card(card)
    assert EVIL in read.text
    assert read.tags <= {
        *("h1", "h2", "p", "ul", "li", "strong", "code", "pre", "img", "a"),
        *("table", "thead", "tbody", "tr", "th", "td"),
    }
    assert {address.rpartition(".")[2] for address in read.addresses} == {"png", "json"}
    page = Reader(civitai)
    assert page.tags <= {"meta", "title", *CIVITAI_TAGS}
    assert not page.addresses
    for text in (card, civitai):
        assert "\u202e" not in text
    assert ModelCard(card).data.to_dict()["tags"][-1] == EVIL
    rows = [line for line in card.split("\n") if line.startswith("|")]
    assert {line.count("|") for line in rows} <= {3, 5, 7, 8}


def hold(output: Path) -> None:
    """Let the manifest say that its first target was erased before, which the verdict names."""
    path = output.with_suffix(".manifest.json")
    manifest = read_manifest(path)
    held = manifest.alignment.model_copy(update={"held": (manifest.recipe.concepts[0].target,)})
    changed = manifest.model_copy(update={"alignment": held}).sealed()
    path.write_text(changed.to_json(), encoding="utf-8")


def test_private_words_stay_private(
    cli: Cli, write_recipe: WriteRecipe, checkpoint_file: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.safetensors"
    text = PROBED.replace("name: van-gogh", "name: quiet")
    assert cli("--quiet", "--private", write_recipe(text), checkpoint_file, output).code == 0
    measure(output)
    hold(output)
    ran = cli("card", output)
    assert "made with --private" in ran.out
    for ending in (".card.md", ".civitai.html"):
        text = output.with_suffix(ending).read_text("utf-8")
        assert "Van Gogh" not in text
        assert "artist" not in text
        assert "in the rain" not in text
        assert "a fish" not in text
        assert "concept 1" in text
        assert "erased before, and kept so" in text
        assert "before-after.png" not in text


def test_the_command_writes_both_beside_the_output(cli: Cli, erased: Path) -> None:
    ran = cli("card", erased, "--release", "author=Jane")
    card, civitai = erased.with_suffix(".card.md"), erased.with_suffix(".civitai.html")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith(f"reading {erased} (")
    assert f"wrote {card}\nwrote {civitai}\n" in ran.out
    assert "no evaluation lies beside OUT, and the card says so: evaluate makes one" in ran.out
    assert "no licence is stated: --release license=NAME" in ran.out
    assert (card.read_text("utf-8"), civitai.read_text("utf-8")) == texts(
        erased, Release(author="Jane")
    )


def test_the_same_release_gives_the_same_bytes(cli: Cli, erased: Path) -> None:
    measure(erased)
    for name in ("a", "b"):
        files = [erased.with_name(f"{name}{suffix}") for suffix in (".md", ".html")]
        assert cli("card", erased, "--out", files[0], "--out", files[1]).code == 0
    for suffix in (".md", ".html"):
        first, second = (erased.with_name(f"{name}{suffix}").read_bytes() for name in ("a", "b"))
        assert first == second
        assert str(erased.parent).encode() not in first


def test_what_the_recipe_states_is_completed(
    cli: Cli, write_recipe: WriteRecipe, checkpoint_file: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.safetensors"
    text = f"{PROBED}release: {{author: Jane, license: Our Own}}\n"
    assert cli("--quiet", write_recipe(text), checkpoint_file, output).code == 0
    ran = cli("card", output, "--release", "author=Joan", "--out", tmp_path / "README.md")
    assert "Our Own: Hugging Face lists no such licence; put its text beside the card" in ran.out
    card = (tmp_path / "README.md").read_text("utf-8")
    assert "Joan" in card
    assert "Jane" not in card
    assert "license_name: our-own" in card
    assert not output.with_suffix(".civitai.html").exists()


@pytest.mark.slow
def test_a_folder_has_its_card_beside_it(cli: Cli, tmp_path: Path) -> None:
    recipe, model = Path("recipes/demo/snoopy.yaml"), copy_of_demo(tmp_path)
    assert cli("--quiet", recipe, model, f"{tmp_path}/out/").code == 0
    assert cli("card", tmp_path / "out").code == 0
    text = (tmp_path / "out.card.md").read_text("utf-8")
    assert "`unet/diffusion_pytorch_model.safetensors`" in text
    assert "Clip skip 2 was not measured." in text
    inside = cli("card", tmp_path / "out", "--out", tmp_path / "out" / "README.md")
    assert inside.code == 2
    assert "this lies in" in inside.err


def test_existing_files_are_kept_without_force(cli: Cli, erased: Path) -> None:
    card = erased.with_suffix(".card.md")
    card.write_text("written by hand", encoding="utf-8")
    ran = cli("card", erased)
    assert (ran.code, ran.err) == (2, f"error: {card}: exists already; --force replaces it\n")
    assert card.read_text("utf-8") == "written by hand"
    assert not erased.with_suffix(".civitai.html").exists()
    assert cli("card", erased, "--force").code == 0
    assert card.read_text("utf-8") != "written by hand"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--out", "card.txt"), "the file's name must end in .md or .html"),
        (("--release", "owner=x"), "write KEY=TEXT"),
        (("--release", "base_model=nothing"), "is no model on Hugging Face"),
    ],
)
def test_mistakes_are_named_before_the_file_is_read(
    cli: Cli, erased: Path, options: tuple[str, str], said: str
) -> None:
    ran = cli("card", erased, *options)
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err


def test_a_file_that_changed_gets_no_card(cli: Cli, erased: Path) -> None:
    with erased.open("ab") as file:
        file.write(b"x")
    ran = cli("card", erased)
    assert ran.code == 5
    assert "is not what its manifest says" in ran.err
    assert not erased.with_suffix(".card.md").exists()


@pytest.mark.slow
def test_a_card_needs_no_library_that_computes_or_draws(erased: Path) -> None:
    measure(erased)
    assert not loaded("card", str(erased)) & SLOW
    assert erased.with_suffix(".card.md").exists()
