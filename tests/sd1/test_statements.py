"""What a checkpoint says of itself, in the words of each trainer and UI, read in one place."""

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

from erasepro_convert.sd1.statements import metadata_from_configurations, read_statements
from tests.conftest import Cli
from tests.miniature import State, save_folder


@pytest.mark.parametrize(
    "metadata",
    [
        *(
            {"modelspec.prediction_type": word}
            for word in ("v", "V", " v ", "v_prediction", "v-prediction", "V_PREDICTION")
        ),
        *({"modelspec.prediction_type": word} for word in ("vpred", "v-pred", "velocity")),
        {"modelspec.predict_key": "v"},
        {"prediction_type": "v_prediction"},
        {"ss_v_parameterization": "True"},
    ],
)
def test_every_spelling_of_v_prediction(metadata: dict[str, str]) -> None:
    stated = read_statements((), metadata)
    assert stated.predicts_v
    assert stated.unclear == ()


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"modelspec.prediction_type": "epsilon"},
        {"modelspec.prediction_type": "EPS"},
        {"modelspec.prediction_type": ""},
        {"modelspec.predict_key": "epsilon"},
        {"ss_v_parameterization": "False"},
        {"ss_v_parameterization": "None", "ss_zero_terminal_snr": "False", "ss_clip_skip": "None"},
    ],
)
def test_epsilon_and_silence_are_clear(metadata: dict[str, str]) -> None:
    stated = read_statements(("betas",), metadata)
    assert (stated.predicts_v, stated.zero_snr, stated.clip_skip) == (False, False, None)
    assert stated.unclear == ()


@pytest.mark.parametrize("value", ["True", "true", "TRUE", "1", "yes"])
@pytest.mark.parametrize("key", ["ss_zero_terminal_snr", "erasepro.zero_terminal_snr"])
def test_every_spelling_of_zero_snr(key: str, value: str) -> None:
    assert read_statements((), {key: value}).zero_snr


def test_markers_among_the_tensors() -> None:
    stated = read_statements({"v_pred", "ztsnr"}, {})
    assert stated.predicts_v
    assert stated.zero_snr


@pytest.mark.parametrize("key", ["modelspec.encoder_layer", "ss_clip_skip"])
@pytest.mark.parametrize(("value", "skip"), [("1", 1), (" 2 ", 2), ("3", 3)])
def test_clip_skip(key: str, value: str, skip: int) -> None:
    assert read_statements((), {key: value}).clip_skip == skip


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({"modelspec.prediction_type": "sample"}, "modelspec.prediction_type says sample"),
        ({"ss_zero_terminal_snr": "maybe"}, "ss_zero_terminal_snr says maybe"),
        ({"modelspec.encoder_layer": "0"}, "modelspec.encoder_layer says 0"),
        ({"modelspec.encoder_layer": "penultimate"}, "modelspec.encoder_layer says penultimate"),
        ({"ss_clip_skip": "\x1b[31m2"}, r"ss_clip_skip says \x1b[31m2"),
    ],
)
def test_what_is_not_understood_is_said(metadata: dict[str, str], said: str) -> None:
    (line,) = read_statements((), metadata).unclear
    assert line == f"{said}, which is not understood and not followed"


def test_statements_that_differ_are_said_and_one_is_followed() -> None:
    stated = read_statements(
        {"v_pred"},
        {
            "modelspec.prediction_type": "epsilon",
            "modelspec.encoder_layer": "2",
            "ss_clip_skip": "1",
        },
    )
    assert stated.predicts_v
    assert stated.clip_skip == 2
    prediction, skip = stated.unclear
    assert prediction == (
        "two statements on its prediction: epsilon by modelspec.prediction_type, v by v_pred; "
        "v is followed"
    )
    assert "2 by modelspec.encoder_layer, 1 by ss_clip_skip; 2 is followed" in skip


@pytest.mark.parametrize(
    ("scheduler", "text_encoder", "metadata"),
    [
        ({}, {}, {}),
        ({"prediction_type": "epsilon", "rescale_betas_zero_snr": False}, {}, {}),
        ({"prediction_type": "v_prediction"}, {}, {"modelspec.prediction_type": "v"}),
        ({"prediction_type": "sample"}, {}, {"modelspec.prediction_type": "sample"}),
        ({"prediction_type": ["v"]}, {}, {"modelspec.prediction_type": "list"}),
        ({"rescale_betas_zero_snr": True}, {}, {"erasepro.zero_terminal_snr": "true"}),
        ({"rescale_betas_zero_snr": "true"}, {}, {"erasepro.zero_terminal_snr": "true"}),
        ({}, {"num_hidden_layers": 12}, {}),
        ({}, {"num_hidden_layers": 11}, {"modelspec.encoder_layer": "2"}),
        ({}, {"text_config": {"num_hidden_layers": 11}}, {"modelspec.encoder_layer": "2"}),
        ({}, {"num_hidden_layers": 10}, {"modelspec.encoder_layer": "3"}),
        ({}, {"num_hidden_layers": 24}, {"modelspec.encoder_layer": "num_hidden_layers 24"}),
        (
            {},
            {"num_hidden_layers": "x" * 999},
            {"modelspec.encoder_layer": "num_hidden_layers " + "x" * 82},
        ),
    ],
)
def test_configurations_of_a_folder(
    scheduler: dict[str, Any], text_encoder: dict[str, Any], metadata: dict[str, str]
) -> None:
    configurations = {"scheduler": scheduler, "text_encoder": text_encoder}
    assert metadata_from_configurations(configurations) == metadata


@pytest.mark.slow
def test_inspection_and_conversion_say_what_they_do_not_follow(
    cli: Cli, van_gogh: Path, state: State, tmp_path: Path
) -> None:
    source, target = tmp_path / "in.safetensors", tmp_path / "out.safetensors"
    save_file(state, source, metadata={"modelspec.prediction_type": "x0"})
    said = "modelspec.prediction_type says x0, which is not understood and not followed"
    assert said in json.loads(cli("inspect", "--json", source).out)[0]["facts"]
    ran = cli(van_gogh, source, target)
    assert ran.code == 0
    assert said in ran.out + ran.err
    manifest = json.loads(target.with_suffix(".manifest.json").read_text())
    assert said in manifest["variant"]["evidence"]


def test_a_folders_configuration_counts_more_than_its_files_metadata(
    cli: Cli, state: State, tmp_path: Path
) -> None:
    """It is what diffusers reads; metadata of the weights may be what they once came from."""
    folder = save_folder(state, tmp_path / "in")
    weights = folder / "text_encoder/model.safetensors"
    tensors = {name: value for name, value in state.items() if name.startswith("cond_stage_model.")}
    named = {name.partition("transformer.")[2]: value for name, value in tensors.items()}
    save_file(named, weights, metadata={"modelspec.encoder_layer": "1"})
    (folder / "text_encoder/config.json").write_text(json.dumps({"num_hidden_layers": 11}))
    (found,) = json.loads(cli("inspect", "--json", folder).out)
    assert "metadata asks for clip skip 2" in found["facts"]
