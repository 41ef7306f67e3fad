"""The manifest: the record of one conversion, and (by these models) its JSON Schema.

Two identical runs give the same manifest but for ``varies_between_runs``.  Norms are Frobenius
norms, computed in float64 from the weights as stored in the output.
"""

from erasepro_convert.manifest.erasure import (
    Alignment,
    AnchorPlace,
    CalibrationRecord,
    Change,
    ColumnSet,
    Conflict,
    EditedLayer,
    EditRecord,
    FeatureDistance,
    PromptPair,
    Residual,
    Synonym,
    Trained,
    edited_layers,
)
from erasepro_convert.manifest.fields import Encoder
from erasepro_convert.manifest.files import (
    ClipSkipFrom,
    DroppedEntry,
    Input,
    InputFile,
    Output,
    OutputFile,
    Previous,
    RenamedTensor,
    RepairedTensor,
    Stored,
    Tensors,
    Variant,
    WrittenTensor,
)
from erasepro_convert.manifest.io import manifest_beside, manifest_path, read_manifest
from erasepro_convert.manifest.lora import LoraFile, LoraLoss, LoraRecord
from erasepro_convert.manifest.measures import (
    EmaRecord,
    Feed,
    ProbeRecord,
    PromptMeasure,
    Reach,
)
from erasepro_convert.manifest.model import Manifest, Tool, VariesBetweenRuns, schema_json

__all__ = [
    "Alignment",
    "AnchorPlace",
    "CalibrationRecord",
    "Change",
    "ClipSkipFrom",
    "ColumnSet",
    "Conflict",
    "DroppedEntry",
    "EditRecord",
    "EditedLayer",
    "EmaRecord",
    "Encoder",
    "FeatureDistance",
    "Feed",
    "Input",
    "InputFile",
    "LoraFile",
    "LoraLoss",
    "LoraRecord",
    "Manifest",
    "Output",
    "OutputFile",
    "Previous",
    "ProbeRecord",
    "PromptMeasure",
    "PromptPair",
    "Reach",
    "RenamedTensor",
    "RepairedTensor",
    "Residual",
    "Stored",
    "Synonym",
    "Tensors",
    "Tool",
    "Trained",
    "Variant",
    "VariesBetweenRuns",
    "WrittenTensor",
    "edited_layers",
    "manifest_beside",
    "manifest_path",
    "read_manifest",
    "schema_json",
]
