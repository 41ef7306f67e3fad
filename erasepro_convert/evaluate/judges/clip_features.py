"""CLIP from a local folder: features of pictures and of texts."""

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
from erasepro_convert.evaluate.judges.features import Features, sha256
from erasepro_convert.evaluate.metrics.kid_fid import Array
from erasepro_convert.sd1.keys import POSITIONS, VOCABULARY

CONFIG, PICTURES = "config.json", "preprocessor_config.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""The first that is there is read; the second by torch's reader that runs no code."""

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


class ClipFeatures(Features):
    """CLIP in transformers' layout, such as a copy of openai/clip-vit-base-patch32.

    Texts are split by the vocabulary that we ship, which is the one of all models of that layout:
    of the folder only the weights and the two configurations are read.  Features are those before
    they are brought to one length, as in clean-fid.
    """

    name = "CLIP"

    def __init__(self, folder: Path) -> None:
        """Look at what is there; weights are read when they are needed.

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
        self.digest = sha256(weights)
        self._prepare = Preparation.of(
            _json(folder / PICTURES) if (folder / PICTURES).exists() else {}
        )

    def look(self, pictures: Sequence[Image.Image]) -> Tensor:
        """(n × d), of RGB pictures."""
        pixels = torch.from_numpy(np.stack([self._prepare(picture) for picture in pictures]))
        seen = self._model.vision_model(pixel_values=pixels).pooler_output
        features: Tensor = self._model.visual_projection(seen)
        return features

    def read(self, texts: Sequence[str]) -> Array:
        """(n × d); what does not fit into 77 tokens is cut off."""
        ids = clip_tokenizer()(
            list(texts),
            padding="max_length",
            truncation=True,
            max_length=POSITIONS,
            return_tensors="pt",
        ).input_ids
        with torch.inference_mode():
            said = self._model.text_model(input_ids=ids).pooler_output
            features: Array = self._model.text_projection(said).double().numpy()
        return features

    @cached_property
    def _model(self) -> Any:
        shown = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()
        try:
            model, found = CLIPModel.from_pretrained(
                self._folder,
                local_files_only=True,
                use_safetensors=self._weights.suffix == ".safetensors",
                attn_implementation="sdpa",  # a configuration may name one to be fetched
                output_loading_info=True,
            )
        except Exception as error:  # readers of three libraries, each with errors of its own
            raise UsageError(f"{self._weights}: {error}") from error
        finally:
            if shown:
                logging.enable_progress_bar()
        if missing := sorted(found["missing_keys"]):  # which would be random
            raise UsageError(f"{self._weights}: it has no {missing[0]}")
        return model.float().eval()


class Preparation:
    """A picture as CLIP wants it: the shorter side resized, the middle cut out, normalised.

    It does what transformers' CLIPImageProcessor does, which needs torchvision in some versions.
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
    def of(cls, config: Mapping[str, Any]) -> "Preparation":
        """As a preprocessor_config.json says, and OpenAI's where it says nothing."""
        size, crop = config.get("size", 224), config.get("crop_size", 224)
        return cls(
            side=size if isinstance(size, int) else size.get("shortest_edge", 224),
            crop=(crop, crop) if isinstance(crop, int) else (crop["height"], crop["width"]),
            filter_=Image.Resampling(config.get("resample", Image.Resampling.BICUBIC)),
            mean=config.get("image_mean", MEAN),
            std=config.get("image_std", STD),
        )

    def __call__(self, picture: Image.Image) -> np.ndarray[Any, np.dtype[np.float32]]:
        """(3, height, width)."""
        shorter = min(picture.size)
        width, height = (length * self._side // shorter for length in picture.size)
        resized = picture.resize((width, height), self._filter)
        height, width = self._crop
        left, top = (resized.width - width) // 2, (resized.height - height) // 2
        cut = np.asarray(resized.crop((left, top, left + width, top + height)))
        normal = (cut / np.float32(255) - self._mean) / self._std
        return normal.astype(np.float32).transpose(2, 0, 1)


def _json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: {error}") from error
    if not isinstance(data, dict):
        raise UsageError(f"{path}: not a configuration")
    return data
