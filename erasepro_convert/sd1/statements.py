"""Read what a checkpoint states of its training: prediction type, terminal SNR, clip skip.

Trainers and UIs state it in different ways: ModelSpec's fields (kohya's scripts and others),
ComfyUI's ``predict_key``, kohya's ``ss_`` fields, tensors without values, and a diffusers folder's
configurations.  All of them are read here and nowhere else.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from erasepro_convert.runtime.printable import printable
from erasepro_convert.sd1.keys import TEXT_LAYERS, V_PREDICTION, ZERO_SNR

PREDICTION_METADATA = "modelspec.prediction_type"
CLIP_SKIP_METADATA = "modelspec.encoder_layer"
ZERO_SNR_METADATA = "erasepro.zero_terminal_snr"

PREDICTION_KEYS = (PREDICTION_METADATA, "modelspec.predict_key", "prediction_type")
V_KEYS = ("ss_v_parameterization", "v_parameterization")
ZERO_SNR_KEYS = (ZERO_SNR_METADATA, "ss_zero_terminal_snr", "zero_terminal_snr")
CLIP_SKIP_KEYS = (CLIP_SKIP_METADATA, "ss_clip_skip", "clip_skip")

PREDICTIONS = {
    **dict.fromkeys(("epsilon", "eps", "noise", "eps_pred", "epsilon_prediction"), "epsilon"),
    **dict.fromkeys(
        ("v", "v_prediction", "v_pred", "vpred", "vprediction", "v_parameterization", "velocity"),
        "v",
    ),
}
"""The prediction type by its spelling, in lower case with underscores."""
YES, NO = ("true", "1", "yes"), ("false", "0", "no")
NOTHING = ("", "none", "null")
"""Values that state nothing, such as Python's None written as text."""
UNCLEAR = "which is not understood and not followed"
"""How a line on a statement ends that nothing here follows."""
VALUE_LIMIT = 100
"""The most characters of a value that are shown or written to another file."""

Meaning = TypeVar("Meaning")


@dataclass(frozen=True)
class Statements:
    """What a checkpoint states of its training.

    ``unclear`` holds a sentence for each statement that cannot be followed.

    ``clip_skip`` counts as UIs do: 1 is the last layer, 2 the one before; None is no statement.
    """

    predicts_v: bool
    zero_snr: bool
    clip_skip: int | None
    unclear: tuple[str, ...]

    @property
    def facts(self) -> Iterator[str]:
        """Each statement in words."""
        if self.predicts_v:
            yield "trained to predict v"
        if self.zero_snr:
            yield "trained with zero terminal SNR"
        if self.clip_skip:
            yield f"metadata asks for clip skip {self.clip_skip}"
        yield from self.unclear


def read_statements(tensors: Collection[str], metadata: Mapping[str, str]) -> Statements:
    """Read the statements in tensor names and metadata; statements that differ are unclear."""
    unclear: list[str] = []

    def read(keys: tuple[str, ...], meanings: Mapping[str, Meaning]) -> dict[str, Meaning]:
        found = {}
        for key in keys:
            value = _normalised(metadata.get(key, ""))
            if value in meanings:
                found[key] = meanings[value]
            elif value not in NOTHING:
                text = printable(metadata[key][:VALUE_LIMIT])
                unclear.append(f"{key} says {text}, {UNCLEAR}")
        return found

    truth = {**dict.fromkeys(YES, True), **dict.fromkeys(NO, False)}
    predicted = read(PREDICTION_KEYS, PREDICTIONS)
    predicted |= {key: "v" for key, is_v in read(V_KEYS, truth).items() if is_v}
    predicted |= {V_PREDICTION: "v"} if V_PREDICTION in tensors else {}
    zero_snr = any(read(ZERO_SNR_KEYS, truth).values()) or ZERO_SNR in tensors
    skips = read(CLIP_SKIP_KEYS, {str(skip): skip for skip in range(1, TEXT_LAYERS + 1)})
    skip = next(iter(skips.values()), None)
    for subject, stated, taken in (("prediction", predicted, "v"), ("clip skip", skips, skip)):
        if len(set(stated.values())) > 1:
            listed = ", ".join(f"{value} by {key}" for key, value in stated.items())
            unclear.append(f"two statements on its {subject}: {listed}; {taken} is followed")
    return Statements("v" in predicted.values(), zero_snr, skip, tuple(unclear))


def metadata_from_configurations(configurations: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Express a diffusers folder's configurations as metadata, without SD1.x's defaults.

    A value that is not understood is kept, so that ``read_statements`` reports it.
    """
    scheduler, text_encoder = (configurations.get(c, {}) for c in ("scheduler", "text_encoder"))
    found = {}
    prediction = _text(scheduler.get("prediction_type"))
    meaning = PREDICTIONS.get(_normalised(prediction), prediction)
    if meaning != "epsilon" and _normalised(prediction) not in NOTHING:
        found[PREDICTION_METADATA] = meaning
    zero_snr = _text(scheduler.get("rescale_betas_zero_snr"))
    if _normalised(zero_snr) not in (*NO, *NOTHING):
        found[ZERO_SNR_METADATA] = "true" if _normalised(zero_snr) in YES else zero_snr
    nested = text_encoder.get("text_config")  # where the configuration is of a whole CLIP model
    inner = nested if isinstance(nested, dict) else {}
    layers = text_encoder.get("num_hidden_layers", inner.get("num_hidden_layers", TEXT_LAYERS))
    if layers != TEXT_LAYERS:
        fewer = isinstance(layers, int) and 0 < layers < TEXT_LAYERS
        found[CLIP_SKIP_METADATA] = (
            str(TEXT_LAYERS + 1 - layers) if fewer else f"num_hidden_layers {_text(layers)}"
        )
    return {key: value[:VALUE_LIMIT] for key, value in found.items()}


def _text(value: Any) -> str:
    """Return a JSON value as text; for a list or a mapping the name of its type."""
    return str(value) if isinstance(value, str | int | float | None) else type(value).__name__


def _normalised(value: str) -> str:
    return value.strip().lower().replace("-", "_").replace(" ", "_")
