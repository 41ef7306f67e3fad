"""The base class of all pieces of a manifest, the types of their fields, and their mistakes."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from erasepro_convert.runtime.hashing import pretty_json
from erasepro_convert.runtime.printable import printable

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Blake3 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0)]
NonNegative = Annotated[float, Field(ge=0)]
Encoder = Literal["edited", "stock"]


def is_none(value: object) -> bool:
    """Whether a field has no value, for one that is left out then."""
    return value is None


def first_mistake(error: ValidationError) -> str:
    """Return the first mistake of a file that has another form, with its place."""
    mistake = error.errors()[0]
    place = printable(".".join(map(str, mistake["loc"])))  # a file can have any keys
    return f"{place or 'the file'}: {mistake['msg'].lower()}"


class Record(BaseModel):
    """A frozen piece of the manifest; JSON has no NaN or infinity, so neither has this."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )

    def to_json(self) -> str:
        """Return sorted, indented JSON text with a final newline."""
        return pretty_json(self.model_dump(mode="json"))
