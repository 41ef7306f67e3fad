"""Features of pictures and of texts, by a CLIP model from a local folder."""

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import CLIPModel
from transformers.utils import logging

from erasepro_convert.clip.hf_tokenizer import clip_tokenizer
from erasepro_convert.errors import UsageError
from erasepro_convert.evaluate.judges.features import Features, file_sha256
from erasepro_convert.evaluate.metrics.kid_fid import Array
from erasepro_convert.sd1.keys import POSITIONS, VOCABULARY

CONFIG, PICTURES = "config.json", "preprocessor_config.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""The first of these that exists is read; the second by torch's reader that runs no code."""

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


class ClipFeatures(Features):
    """A CLIP model in transformers' layout, such as a copy of openai/clip-vit-base-patch32.

    Texts are split by the vocabulary that ships with this package, which all models of that layout
    share.  From the folder only the weights and the two configurations are read.  Features are
    those before normalisation, as in clean-fid.
    """

    name = "CLIP"

    def __init__(self, folder: Path) -> None:
        """Check the folder; weights are read when they are first needed.

        Raises UsageError for a folder that does not hold such a model.
        """
        super().__init__()
        self._folder = folder
        config = _json(folder / CONFIG)
        vocabulary = config.get("text_config", {}).get("vocab_size", VOCABULARY)
        if config.get("model_type") != "clip" or vocabulary != VOCABULARY:
            raise UsageError(f"{folder}: not a CLIP model with OpenAI's vocabulary")
        weights = next((folder / name for name in WEIGHTS if (folder / name).exists()), None)
        if weights is None:
            raise UsageError(f"{folder}: it has no {' and no '.join(WEIGHTS)}")
        self._weights = weights
        self.digest = file_sha256(weights)
        self._preprocess = Preprocessor.from_config(
            _json(folder / PICTURES) if (folder / PICTURES).exists() else {}
        )

    def extract(self, pictures: Sequence[Image.Image]) -> Tensor:
        """Return features (n × d) of RGB pictures."""
        pixels = torch.from_numpy(np.stack([self._preprocess(picture) for picture in pictures]))
        pooled = self._model.vision_model(pixel_values=pixels).pooler_output
        features: Tensor = self._model.visual_projection(pooled)
        return features

    def text_features(self, texts: Sequence[str]) -> Array:
        """Return features (n × d) of texts; tokens after the 77th are cut off."""
        ids = clip_tokenizer()(
            list(texts),
            padding="max_length",
            truncation=True,
            max_length=POSITIONS,
            return_tensors="pt",
        ).input_ids
        with torch.inference_mode():
            pooled = self._model.text_model(input_ids=ids).pooler_output
            features: Array = self._model.text_projection(pooled).double().numpy()
        return features

    @cached_property
    def _model(self) -> Any:
        bars_enabled = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()
        try:
            model, found = CLIPModel.from_pretrained(
                self._folder,
                local_files_only=True,
                use_safetensors=self._weights.suffix == ".safetensors",
                attn_implementation="sdpa",  # a configuration may name one that would be fetched
                output_loading_info=True,
            )
        except Exception as error:  # readers of three libraries, each with errors of its own
            raise UsageError(f"{self._weights}: {error}") from error
        finally:
            if bars_enabled:
                logging.enable_progress_bar()
        if missing := sorted(found["missing_keys"]):  # transformers would fill them at random
            raise UsageError(f"{self._weights}: it has no {missing[0]}")
        return model.float().eval()


class Preprocessor:
    """Prepares a picture for CLIP: resizes the shorter side, crops the centre, normalises.

    transformers' CLIPImageProcessor does this too, but needs torchvision in some versions.
    """

    def __init__(
        self,
        side: int,
        crop: tuple[int, int],
        filter_: Image.Resampling,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        """``crop`` is height and width."""
        self._side, self._crop, self._filter = side, crop, filter_
        self._mean, self._std = np.array(mean, np.float32), np.array(std, np.float32)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Preprocessor":
        """Read a preprocessor_config.json; OpenAI's values stand in for missing entries."""
        size, crop = config.get("size", 224), config.get("crop_size", 224)
        return cls(
            side=size if isinstance(size, int) else size.get("shortest_edge", 224),
            crop=(crop, crop) if isinstance(crop, int) else (crop["height"], crop["width"]),
            filter_=Image.Resampling(config.get("resample", Image.Resampling.BICUBIC)),
            mean=config.get("image_mean", MEAN),
            std=config.get("image_std", STD),
        )

    def __call__(self, picture: Image.Image) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Return the picture as an array (3, height, width)."""
        shorter = min(picture.size)
        width, height = (length * self._side // shorter for length in picture.size)
        resized = picture.resize((width, height), self._filter)
        height, width = self._crop
        left, top = (resized.width - width) // 2, (resized.height - height) // 2
        cut = np.asarray(resized.crop((left, top, left + width, top + height)))
        normalised = (cut / np.float32(255) - self._mean) / self._std
        return normalised.astype(np.float32).transpose(2, 0, 1)


def _json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: {error}") from error
    if not isinstance(data, dict):
        raise UsageError(f"{path}: not a configuration")
    return data
