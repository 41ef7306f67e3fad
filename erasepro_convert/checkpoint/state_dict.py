"""Find the state dict in what a pickle held, and list the entries beside it."""

from collections.abc import Callable

from erasepro_convert.checkpoint.pickle_values import GlobalName
from erasepro_convert.checkpoint.tensor_info import (
    ParsedFile,
    Region,
    StorageRecord,
    TensorInfo,
    TensorRecord,
)
from erasepro_convert.checkpoint.torch_pickle import Unpickled
from erasepro_convert.errors import CheckpointError
from erasepro_convert.runtime.printable import is_plain, printable

TRAINING_STATE = "training state beside the weights"
WRAPPER = "state_dict"
"""The key under which trainers keep the state dict beside their own state."""
WRAPPERS_LIMIT = 3
"""How many dicts may lie in each other above the tensors."""
SHOWN_KEYS = 5
"""The most keys that a message lists."""


def parse_state_dict(pickled: Unpickled, locate: Callable[[StorageRecord], Region]) -> ParsedFile:
    """Return the tensors of the state dict, which may lie in another dict, and list the rest.

    ``locate`` gives a storage's position in the file.  Raises CheckpointError when there is no
    state dict, or more than one that could be meant, when it is wrapped too often (or holds
    itself), when a tensor reaches outside of its storage, or has a name that cannot be written.
    """
    skipped: dict[str, str] = {}
    state = _as_dict(pickled.root)
    for _ in range(WRAPPERS_LIMIT + 1):
        wrapper = _wrapper_key(state)
        if wrapper is None:
            break
        skipped |= {_key_text(key): TRAINING_STATE for key in state if key != wrapper}
        state = _as_dict(state[wrapper])
    else:
        raise CheckpointError("its state_dict holds a state_dict too often")
    tensors: dict[str, TensorInfo] = {}
    for key, value in state.items():
        if type(value) is TensorRecord and type(key) is str:
            if not is_plain(key):
                raise CheckpointError(f"it has a tensor with an odd name: {printable(key, 80)}")
            tensors[key] = value.locate(key, locate(value.storage))
        else:
            skipped[_key_text(key)] = "not a tensor"
    return ParsedFile(tensors, {}, skipped, pickled.pickle_globals)


def _wrapper_key(state: dict[object, object]) -> object:
    """Return the key under which the state dict lies; None where ``state`` is it, or has none.

    Trainers use the key ``state_dict``, or one of their own such as ``model`` beside settings.
    """
    if type(state.get(WRAPPER)) is dict:
        return WRAPPER
    if _has_tensors(state):
        return None
    inner = [key for key, value in state.items() if _has_tensors(value) or _is_wrapped(value)]
    if len(inner) > 1:
        keys = ", ".join(map(_key_text, inner[:SHOWN_KEYS]))
        raise CheckpointError(
            f"its tensors lie under several keys ({keys}): save the one that is meant by itself"
        )
    return inner[0] if inner else None


def _has_tensors(value: object) -> bool:
    return type(value) is dict and any(
        type(key) is str and type(tensor) is TensorRecord for key, tensor in value.items()
    )


def _is_wrapped(value: object) -> bool:
    return type(value) is dict and _has_tensors(value.get(WRAPPER))


def _as_dict(root: object) -> dict[object, object]:
    if type(root) is not dict:
        raise CheckpointError(f"it holds a {type(root).__name__}, not a dict of tensors")
    return root


def _key_text(key: object) -> str:
    """Return a dict's key as text for messages and records."""
    if type(key) is str:
        return printable(key, 100)
    if type(key) is GlobalName:
        return str(key)
    return f"(an entry whose key is a {type(key).__name__}: {printable(str(key), 40)})"
