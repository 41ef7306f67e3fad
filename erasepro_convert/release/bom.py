"""The bill of materials of a release: CycloneDX 1.6, an ML-BOM.

The library has no model cards yet (the standard has had them since 1.5), so that the card is put
into what the library writes; all of it is then held against the standard's schema, offline.
Nothing is random: the serial number comes from the manifest's digest, the time is the conversion's.
"""

import json
import re
from collections.abc import Sequence
from datetime import datetime
from uuid import NAMESPACE_URL, uuid5

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import (
    ExternalReference,
    ExternalReferenceType,
    HashAlgorithm,
    HashType,
    Property,
    XsUri,
)
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType, Pedigree
from cyclonedx.model.contact import OrganizationalContact, OrganizationalEntity
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

from erasepro_convert.errors import UsageError
from erasepro_convert.manifest import Manifest
from erasepro_convert.recipe.release import Release
from erasepro_convert.release.bom_model_card import model_card
from erasepro_convert.release.bundle import (
    CARD,
    EVALUATION,
    MANIFEST,
    RECIPE,
    REPORT,
    STRESS,
    Files,
)
from erasepro_convert.release.summaries import bundle_file
from erasepro_convert.report.results_model import Evaluation, Stress
from erasepro_convert.runtime.hashing import pretty_json

MAIL = re.compile(r"[\w.+-]+@[\w-]+(\.[\w-]+)+", re.ASCII)
PAGE = re.compile(r"https?://[!-~]+")
REFERENCES = {
    MANIFEST: ExternalReferenceType.BUILD_META,
    RECIPE: ExternalReferenceType.CONFIGURATION,
    REPORT: ExternalReferenceType.DOCUMENTATION,
    CARD: ExternalReferenceType.MODEL_CARD,
    EVALUATION: ExternalReferenceType.QUALITY_METRICS,
    STRESS: ExternalReferenceType.PENTEST_REPORT,
}
"""What CycloneDX calls the files of a bundle."""


def bill_of_materials(
    manifest: Manifest,
    release: Release,
    evaluation: Evaluation | None,
    stress: Stress | None,
    files: Files,
) -> str:
    """Return the ML-BOM as JSON with sorted keys.

    ``files`` are those of the bundle that it refers to.  Raises UsageError where the manifest does
    not say when the conversion started.
    """
    try:
        started = datetime.fromisoformat(manifest.varies_between_runs.started)
    except ValueError as error:
        raise UsageError(f"the manifest's varies_between_runs.started: {error}") from error
    bom = Bom(serial_number=uuid5(NAMESPACE_URL, f"sha256:{manifest.manifest_sha256}"), version=1)
    bom.metadata = BomMetaData(
        component=_checkpoint(manifest, release, files),
        timestamp=started,
    )
    tool = manifest.tool
    bom.metadata.tools.components.add(
        Component(
            type=ComponentType.APPLICATION,
            name=tool.name,
            version=tool.version,
            bom_ref="tool",
            components=[
                Component(type=ComponentType.LIBRARY, name=name, version=version, bom_ref=name)
                for name, version in tool.libraries.items()
            ],
        )
    )
    written = make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string()
    data = json.loads(written)
    data["metadata"]["component"]["modelCard"] = model_card(manifest, release, evaluation, stress)
    return pretty_json(data)


def schema_error(bom: str) -> str | None:
    """Return what is wrong with a bill of materials by the standard's schema; None for nothing."""
    error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(bom)
    if error:
        return str(error).partition("\n")[0]
    version = json.loads(bom)["specVersion"]  # the schema wants one, whichever it is
    return None if version == SchemaVersion.V1_6.to_version() else f"it is of version {version}"


def stated_digests(bom: bytes) -> dict[str, str]:
    """Return the digests in a bill of materials that the schema allows.

    The names are those of the bundle's files, and those of the models' files behind "checkpoint: "
    and "original: ".
    """
    component = json.loads(bom).get("metadata", {}).get("component", {})
    ancestors = component.get("pedigree", {}).get("ancestors", [])
    found = {}
    for role, model in (("checkpoint", component), *(("original", each) for each in ancestors)):
        for part in (model, *model.get("components", [])):
            for stated in part.get("hashes", []):
                found[f"{role}: {part['name']}"] = stated["content"]
    for reference in component.get("externalReferences", []):
        for stated in reference.get("hashes", []):
            found[reference["url"]] = stated["content"]
    return found


def _checkpoint(manifest: Manifest, release: Release, files: Files) -> Component:
    written = [(file.name, file.sha256) for file in manifest.output.files]
    component = _model("checkpoint", manifest.output.name, written)
    component.description = release.description or _erased(manifest)
    component.supplier = _responsible(release)
    if release.license:
        component.licenses = [LicenseFactory().make_from_string(release.license)]
    component.pedigree = Pedigree(
        ancestors=[_original(manifest, release)],
        notes=f"{_erased(manifest)}; {MANIFEST} says how.",
    )
    component.external_references = [
        ExternalReference(
            type=kind, url=XsUri(name), hashes=[_sha256(bundle_file(files[name]).sha256)]
        )
        for name, kind in REFERENCES.items()
        if name in files
    ]
    component.properties = [
        Property(name="erasepro-convert:manifest_sha256", value=manifest.manifest_sha256),
        Property(name="erasepro-convert:recipe_sha256", value=manifest.recipe_sha256),
        Property(
            name=f"erasepro-convert:tensors_{manifest.output.algorithm}",
            value=manifest.output.tensors_digest,
        ),
    ]
    return component


def _original(manifest: Manifest, release: Release) -> Component:
    read = [(file.name, file.sha256) for file in manifest.input.files]
    component = _model("original", manifest.input.name, read)
    if release.base_model:
        owner, name = release.base_model.split("/")
        component.purl = PackageURL("huggingface", owner, name)
    if manifest.previous:
        component.properties = [
            Property(
                name="erasepro-convert:manifest_sha256", value=manifest.previous.manifest_sha256
            )
        ]
    return component


def _model(reference: str, name: str, files: Sequence[tuple[str, str | None]]) -> Component:
    """Return a model: one file with its digest, or a folder with its files."""
    if [part for part, _ in files] == [name]:
        hashes = [_sha256(digest) for _, digest in files if digest]
        return Component(
            type=ComponentType.MACHINE_LEARNING_MODEL, name=name, bom_ref=reference, hashes=hashes
        )
    parts = [
        Component(
            type=ComponentType.FILE,
            name=part,
            bom_ref=f"{reference}/{part}",
            hashes=[_sha256(digest)] if digest else [],
        )
        for part, digest in files
    ]
    return Component(
        type=ComponentType.MACHINE_LEARNING_MODEL, name=name, bom_ref=reference, components=parts
    )


def _responsible(release: Release) -> OrganizationalEntity | None:
    contact = release.contact
    if not (release.responsible or contact):
        return None
    entity = OrganizationalEntity(name=release.responsible)
    if contact and MAIL.fullmatch(contact):
        entity.contacts = [OrganizationalContact(email=contact)]
    elif contact and PAGE.fullmatch(contact):
        entity.urls = [XsUri(contact)]
    elif contact:
        entity.contacts = [OrganizationalContact(name=contact)]
    return entity


def _erased(manifest: Manifest) -> str:
    pairs = ", ".join(f"{c.target} to {c.anchor or 'no words'}" for c in manifest.recipe.concepts)
    return f"Erased from {manifest.input.name}: {pairs}"


def _sha256(digest: str) -> HashType:
    return HashType(alg=HashAlgorithm.SHA_256, content=digest)
