"""Licences as Hugging Face names them.

The identifiers are those of its documentation in August 2026 (huggingface/hub-docs,
docs/hub/repositories-licenses.md); the Hub refuses a card with another one.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from erasepro_convert.manifest.safetensors_metadata import original_license
from erasepro_convert.runtime.printable import on_one_line

_LISTED = """
afl-3.0 agpl-3.0 apache-2.0 apple-amlr apple-ascl artistic-2.0 bigcode-openrail-m
bigscience-bloom-rail-1.0 bigscience-openrail-m bsd bsd-2-clause bsd-3-clause
bsd-3-clause-clear bsl-1.0 c-uda cc cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-nc-2.0
cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0
cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 cdla-permissive-1.0
cdla-permissive-2.0 cdla-sharing-1.0 creativeml-openrail-m deepfloyd-if-license ecl-2.0 epl-1.0
epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 fair-noncommercial-research-license gemma gfdl gpl gpl-2.0
gpl-3.0 grok2-community h-research intel-research isc lgpl lgpl-2.1 lgpl-3.0 lgpl-lr llama2
llama3 llama3.1 llama3.2 llama3.3 llama4 lppl-1.3c mit mpl-2.0 ms-pl ncsa odbl odc-by ofl-1.1
openmdw-1.0 openmdw-1.1 openrail openrail++ osl-3.0 pddl postgresql unknown unlicense wtfpl zlib
"""
IDENTIFIERS = frozenset(_LISTED.split())


@dataclass(frozen=True)
class License:
    """What a card says of a licence; ``name`` and ``link`` belong to ``other`` alone."""

    identifier: str
    name: str | None = None
    link: str | None = None


def hub_license(stated: str) -> License:
    """Return a licence as Hugging Face has it: an identifier of its list, whatever its capitals.

    Another one is ``other``, with an identifier of our own for a name and, as link, the address
    that it is or else the file LICENSE of the repository, which has to have its text.
    """
    words = re.sub(r"[\s_]+", "-", stated.strip().lower())
    if words in IDENTIFIERS:
        return License(words)
    if re.fullmatch(r"https?://[^\s<>\"'`]+", stated) and stated.isprintable():
        return License("other", "custom", stated)
    name = re.sub(r"[^a-z0-9.]+", "-", words).strip("-.")
    return License("other", name[:96] or "custom", "LICENSE")


def license_warning(stated: str | None, metadata: Mapping[str, str]) -> str | None:
    """Say that a release states another licence than the original's metadata; None where not.

    ``metadata`` are those of the output.  What either licence allows is not known here.
    """
    original = original_license(metadata)
    if not (stated and original) or hub_license(stated) == hub_license(original):
        return None
    return (
        f"warning: the release states the licence {on_one_line(stated)}, the original's metadata "
        f"{on_one_line(original)}: see to it that the original's allows this"
    )
