"""Manifests of schema version 1, which are read as version 2.

Version 1 had other names for three fields of ``edits`` (and of ``ema.edits``).  Its digest is over
these names, so a manifest that was read as version 1 is checked in that form.
"""

from collections.abc import Iterator
from typing import Any

RENAMED = {
    "apart": "feature_distance",
    "apart_without": "feature_distance_without_edits",
    "alone": "single_encoder_update",
}
"""Names of version 2 by those of version 1."""


def to_version_2(data: dict[str, Any]) -> dict[str, Any]:
    """The JSON of a version 1 manifest under the names of version 2; ``data`` stays as it is.

    What does not have the form of a manifest is passed on for validation to refuse.
    """
    return _renamed(data, RENAMED) | {"schema_version": 2}


def to_version_1(data: dict[str, Any]) -> dict[str, Any]:
    """The JSON of a version 2 manifest under the names of version 1; ``data`` stays as it is."""
    return _renamed(data, {new: old for old, new in RENAMED.items()}) | {"schema_version": 1}


def _renamed(data: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    changed = dict(data)
    for holder in _holders_of_edits(changed):
        edits = holder["edits"]
        if isinstance(edits, list):
            holder["edits"] = [_with_names(edit, names) for edit in edits]
    return changed


def _holders_of_edits(data: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The mappings that have a key ``edits``; that of the EMA copy is replaced by a copy."""
    if "edits" in data:
        yield data
    ema = data.get("ema")
    if isinstance(ema, dict) and "edits" in ema:
        data["ema"] = dict(ema)
        yield data["ema"]


def _with_names(edit: Any, names: dict[str, str]) -> Any:
    if not isinstance(edit, dict):
        return edit
    return {names.get(key, key): value for key, value in edit.items()}
