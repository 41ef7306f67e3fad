"""Find the state dict in what a pickle held, and name what stands beside it."""

from collections.abc import Callable

from erasepro_convert.checkpoint.tensors import Contents, StorageRecord, TensorInfo, TensorRecord
from erasepro_convert.errors import CheckpointError

TRAINING_STATE = "training state beside the weights"

Locate = Callable[[StorageRecord], int]


def state_contents(root: object, locate: Locate) -> Contents:
    """The tensors of a bare dict or of the one under ``state_dict``; the rest is only named.

    ``locate`` gives a storage's position in the file.  Raises CheckpointError when there is no
    state dict or a tensor reaches outside of its storage.
    """
    if not isinstance(root, dict):
        raise CheckpointError(f"it holds a {type(root).__name__}, not a dict of tensors")
    others: dict[str, str] = {}
    state = root
    if isinstance(root.get("state_dict"), dict):
        state = root["state_dict"]
        others = {_name(key): TRAINING_STATE for key in root if key != "state_dict"}
    tensors: dict[str, TensorInfo] = {}
    for key, value in state.items():
        if isinstance(value, TensorRecord) and isinstance(key, str):
            tensors[_name(key)] = value.locate(key, locate(value.storage))
        else:
            others[_name(key)] = "not a tensor"
    return Contents(tensors, {}, others)


def _name(key: object) -> str:
    """A dict's key for the record; a pickle can hold strings that no text file can."""
    if not isinstance(key, str):
        return f"(an entry whose key is a {type(key).__name__})"
    return key.encode(errors="backslashreplace").decode()
