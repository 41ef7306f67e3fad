"""Read ``1-12``, ``[1, 3-5]``, ``up.1-3``, ``all`` and ``none`` as layers or U-Net blocks."""

import re
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from erasepro_convert.recipe.fields import describe_value
from erasepro_convert.sd1.keys import TEXT_LAYERS, UNET_BLOCKS

_Layer = (
    Annotated[int, Field(ge=1, le=TEXT_LAYERS)]
    | Annotated[str, Field(pattern=r"^\d{1,4}(\s*-\s*\d{1,4})?$")]
)
_Block = Annotated[str, Field(pattern=r"^(mid|(down|up)\.\d(-\d)?)$")]
_AllOrNone = Annotated[str, Field(pattern="^(all|none)$")]

LayerSelection = _AllOrNone | _Layer | list[_Layer]
"""What a recipe may write for layers of the text encoder, for its JSON Schema."""
BlockSelection = _AllOrNone | _Block | list[_Block]
"""What a recipe may write for blocks of the U-Net, for its JSON Schema."""


def layer_numbers(value: object) -> tuple[int, ...]:
    """Read text-encoder layers: 1-based, ascending.  Raises ValueError."""
    if value == "all":
        return tuple(range(1, TEXT_LAYERS + 1))
    numbers = {number for part in _parts(value) for number in _layer_range(part)}
    return tuple(sorted(numbers))


def block_names(value: object) -> tuple[str, ...]:
    """Read U-Net blocks, in the order of the forward pass.  Raises ValueError."""
    if value == "all":
        return UNET_BLOCKS
    names = {name for part in _parts(value) for name in _block_range(part)}
    return tuple(block for block in UNET_BLOCKS if block in names)


def _parts(value: object) -> Sequence[object]:
    if value == "none":
        return ()
    if isinstance(value, list | tuple):
        return value  # may be empty, as in a manifest, and then means none
    return (value,)


def _dash_advice(part: object) -> str:
    """Advice for a range with a dash that is no hyphen, as the end of a message, or nothing."""
    dash = re.search("[\u2010-\u2015\u2212\uff0d]", str(part))
    return f"; write - for {dash[0]}" if dash else ""


def _layer_range(part: object) -> range:
    match = re.fullmatch(r"(\d{1,4})(?:\s*-\s*(\d{1,4}))?", str(part))
    if not match or isinstance(part, bool) or not isinstance(part, int | str):
        raise ValueError(
            f"{describe_value(part)} is not a layer; write 5, 1-12, [1, 3-5], all or none"
            f"{_dash_advice(part)}"
        )
    first, last = int(match[1]), int(match[2] or match[1])
    if not (1 <= first <= TEXT_LAYERS and 1 <= last <= TEXT_LAYERS):
        raise ValueError(f"{part} is out of range: the text encoder has layers 1-{TEXT_LAYERS}")
    if first > last:
        raise ValueError(f"{part} runs backwards; write {last}-{first}")
    return range(first, last + 1)


def _block_range(part: object) -> tuple[str, ...]:
    match = re.fullmatch(r"(down|up)\.(\d)-(\d)", part) if isinstance(part, str) else None
    if match and match[2] > match[3]:
        raise ValueError(f"{part} runs backwards; write {match[1]}.{match[3]}-{match[2]}")
    names = (
        tuple(f"{match[1]}.{i}" for i in range(int(match[2]), int(match[3]) + 1))
        if match
        else (part,)
    )
    for name in names:
        if name not in UNET_BLOCKS:
            raise ValueError(
                f"{describe_value(name)} is no U-Net block with cross-attention; there are "
                f"{', '.join(UNET_BLOCKS)}, ranges such as up.1-3, all and none{_dash_advice(name)}"
            )
    return tuple(str(name) for name in names)
