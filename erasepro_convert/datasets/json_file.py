"""JSON files of prompts, read whole within a limit."""

import json
from pathlib import Path

from erasepro_convert.errors import UsageError

LARGEST_JSON = 1 << 28
"""The largest JSON file in bytes; COCO's captions of 2014 with the training set have a third."""


def read_json(path: Path) -> object:
    """Read a JSON file; of COCO's objects only what is needed is kept.

    Raises UsageError, with the line, where the file is not JSON, and for one that is too large;
    OSError passes through.
    """
    if (size := path.stat().st_size) > LARGEST_JSON:
        raise UsageError(f"{path}: has {size} bytes; no known dataset has so many")
    try:
        data: object = json.loads(path.read_text("utf-8-sig"), object_hook=_reduce)
    except json.JSONDecodeError as error:
        raise UsageError(f"{path}:{error.lineno}: not JSON: {error.msg}") from error
    except (UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{path}: not JSON: {error}") from error
    return data


def _reduce(entry: dict[str, object]) -> object:
    """Keep only what is needed of an object in COCO's JSON, to save memory."""
    if "caption" in entry and "image_id" in entry:
        return entry["image_id"], entry["caption"]
    return None if "file_name" in entry else entry
