"""The bill of materials is CycloneDX 1.6, says what the manifest says, and nothing at random."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from erasepro_convert.manifest import EmaRecord
from erasepro_convert.recipe.release import Release
from erasepro_convert.release.bom import bill_of_materials, schema_error, stated_digests
from erasepro_convert.report.results_model import Evaluation, Stress
from tests.release.made import Made, make
from tests.release.measured import evaluation, stress


@pytest.fixture(scope="module")
def made(checkpoint_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(checkpoint_file, tmp_path_factory.mktemp("release"))


def bom_of(made: Made, **stated: Any) -> dict[str, Any]:
    """The bill of materials with these statements, which the schema allows."""
    text = bill_of_materials(made.manifest, Release.model_validate(stated), None, None, {})
    assert schema_error(text) is None
    data: dict[str, Any] = json.loads(text)
    return data


def component(made: Made, **stated: Any) -> dict[str, Any]:
    found: dict[str, Any] = bom_of(made, **stated)["metadata"]["component"]
    return found


def test_its_digests_are_the_manifests(made: Made) -> None:
    text = bill_of_materials(made.manifest, Release(), None, None, {"card.md": b"card"})
    written, read = made.manifest.output.files[0], made.manifest.input.files[0]
    assert stated_digests(text.encode()) == {
        f"checkpoint: {written.name}": written.sha256,
        f"original: {read.name}": read.sha256,
        "card.md": hashlib.sha256(b"card").hexdigest(),
    }


def test_it_is_a_function_of_its_arguments(made: Made) -> None:
    assert bom_of(made) == bom_of(made)
    assert bom_of(made)["metadata"]["timestamp"] == made.manifest.varies_between_runs.started
    other = Made(made.base, made.output, made.manifest.model_copy(update={"synonyms": {"x": ()}}))
    other = Made(made.base, made.output, other.manifest.sealed())
    assert bom_of(other)["serialNumber"] != bom_of(made)["serialNumber"]


def test_its_model_card_has_all_figures_with_their_intervals(made: Made) -> None:
    text = bill_of_materials(
        made.manifest,
        Release(),
        Evaluation.model_validate_json(json.dumps(evaluation(made.output).to_data())),
        Stress.model_validate_json(json.dumps(stress(made.output, drawn=True).to_data())),
        {},
    )
    assert schema_error(text) is None
    card = json.loads(text)["metadata"]["component"]["modelCard"]
    metrics = card["quantitativeAnalysis"]["performanceMetrics"]
    kinds = {metric["type"] for metric in metrics}
    assert kinds == {
        "leak on text features", "drift on text features", "distance under attack",
        "recovered under attack", "demo judge: T: target seen",
        "KID and FID on demo features: KID O",
    }  # fmt: skip
    shown = [m for m in metrics if m["type"] == "demo judge: T: target seen"]
    assert shown == [
        {
            "type": "demo judge: T: target seen",
            "slice": "Van Gogh; erased",
            "value": "0.125",
            "confidenceInterval": {"lowerBound": "0.0625", "upperBound": "0.25"},
        },
        {"type": "demo judge: T: target seen", "slice": "Van Gogh; original", "value": "1"},
    ]
    assert card["modelParameters"]["task"] == "text-to-image"
    limitations = " ".join(card["considerations"]["technicalLimitations"])
    assert "merging with the original" in limitations


def test_a_target_without_an_anchor_became_no_words(made: Made) -> None:
    recipe = made.manifest.recipe
    concepts = (recipe.concepts[0].model_copy(update={"anchor": ""}),)
    recipe = recipe.model_copy(update={"concepts": concepts})
    manifest = made.manifest.model_copy(update={"recipe": recipe})
    found = component(Made(made.base, made.output, manifest))
    assert found["description"] == "Erased from mini.safetensors: Van Gogh to no words"
    (considered,) = found["modelCard"]["considerations"]["ethicalConsiderations"]
    assert considered["mitigationStrategy"].startswith("prompts for it give no words")


def test_an_ema_copy_has_its_figures_too(made: Made) -> None:
    manifest = made.manifest
    ema = EmaRecord(edits=(), probe=manifest.probe)
    kept = Made(made.base, made.output, manifest.model_copy(update={"ema": ema}))
    card = component(kept)["modelCard"]
    metrics = card["quantitativeAnalysis"]["performanceMetrics"]
    of_ema = [m for m in metrics if m["slice"].endswith("; EMA copy of the U-Net")]
    assert len(of_ema) * 2 == len(metrics)


@pytest.mark.parametrize(
    ("contact", "said"),
    [
        ("jane@example.org", {"contact": [{"email": "jane@example.org"}]}),
        ("https://example.org/x?y=1", {"url": ["https://example.org/x?y=1"]}),
        ("ask <Jane> at home", {"contact": [{"name": "ask <Jane> at home"}]}),
        ("@\u202e\n", {"contact": [{"name": "@\u202e"}]}),
    ],
)
def test_a_contact_is_a_mail_address_a_page_or_a_name(
    made: Made, contact: str, said: dict[str, Any]
) -> None:
    assert component(made, contact=contact)["supplier"] == said
    named = component(made, contact=contact, responsible="Jane")["supplier"]
    assert named == said | {"name": "Jane"}


@pytest.mark.parametrize(
    ("license_", "said"),
    [
        ("apache-2.0", {"license": {"id": "Apache-2.0"}}),
        ("creativeml-openrail-m", {"license": {"name": "creativeml-openrail-m"}}),
        ("<b>mine</b>", {"license": {"name": "<b>mine</b>"}}),
        ("MIT OR Apache-2.0", {"expression": "MIT OR Apache-2.0"}),
    ],
)
def test_a_licence_is_spdxs_where_that_has_it(
    made: Made, license_: str, said: dict[str, Any]
) -> None:
    assert component(made, license=license_)["licenses"] == [said]


def test_the_original_has_its_name_on_hugging_face(made: Made) -> None:
    (original,) = component(made, base_model="CompVis/stable-diffusion-v1-4")["pedigree"][
        "ancestors"
    ]
    assert original["purl"] == "pkg:huggingface/CompVis/stable-diffusion-v1-4"
    assert "supplier" not in component(made)
    assert "licenses" not in component(made)


@pytest.mark.parametrize(
    "text",
    ["{}", "[]", '{"bomFormat": "CycloneDX", "specVersion": "1.5"}', '{"bomFormat": "x"}'],
)
def test_what_is_no_bill_of_materials_is_told(text: str) -> None:
    assert schema_error(text)
