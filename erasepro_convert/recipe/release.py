"""The recipe's section on a release: what whoever publishes the result says of it."""

import re
from collections.abc import Iterable
from datetime import date
from typing import Annotated

from pydantic import AfterValidator, ValidationError

from erasepro_convert.errors import UsageError
from erasepro_convert.recipe.fields import Name, Section, distinct
from erasepro_convert.runtime.printable import quoted

REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)


def _a_repository(name: str) -> str:
    if not REPOSITORY.fullmatch(name):
        raise ValueError(f"{quoted(name)} is no model on Hugging Face: write OWNER/NAME")
    return name


def _a_day(text: str) -> str:
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise ValueError(f"{quoted(text)} is no day: write YYYY-MM-DD") from None


def _without_comma(tag: str) -> str:
    if "," in tag:
        raise ValueError(f"{quoted(tag)} is more than one tag: a comma stands between tags")
    return tag


Tag = Annotated[Name, AfterValidator(_without_comma)]


class Release(Section):
    """What a publisher says of a release; nothing here changes a weight.

    ``title``, ``description``, ``author``, ``license`` and ``tags`` stand in the output's metadata,
    where UIs show them.  All of it stands in the manifest, the model card and the evidence.
    """

    title: Name | None = None
    """The output's title, which UIs show."""
    description: Name | None = None
    """What the output is."""
    author: Name | None = None
    """Who made it."""
    license: Name | None = None
    """As Hugging Face names licences, such as creativeml-openrail-m."""
    tags: Annotated[tuple[Tag, ...], AfterValidator(distinct)] = ()
    """Words to find it by."""
    base_model: Annotated[Name, AfterValidator(_a_repository)] | None = None
    """The input's name on Hugging Face."""
    purpose: Name | None = None
    """Why the targets were erased."""
    reference: Name | None = None
    """What asked for it: the number of a request, a law, a policy."""
    responsible: Name | None = None
    """The person or organisation that answers for the release."""
    contact: Name | None = None
    """Where questions and complaints go: a mail address or a page."""
    review: Annotated[Name, AfterValidator(_a_day)] | None = None
    """The day on which the release is looked at again, as YYYY-MM-DD."""


def with_statements(release: Release | None, statements: Iterable[str]) -> Release:
    """Return a release with the keys of texts such as ``author=Jane Doe``; tags have commas.

    Raises UsageError for a text of another form, an unknown key, one that is set twice and a value
    that no release has.
    """
    keys: dict[str, str | list[str]] = {}
    for statement in statements:
        key, equals, text = statement.partition("=")
        if not equals or key not in Release.model_fields:
            known = ", ".join(Release.model_fields)
            raise UsageError(f"--release {statement}: write KEY=TEXT; the keys are {known}")
        if key in keys:
            raise UsageError(f"--release: {key} is set twice")
        keys[key] = text.split(",") if key == "tags" else text
    release = release or Release()
    try:
        return Release.model_validate(release.model_dump() | keys) if keys else release
    except ValidationError as error:
        mistake = error.errors()[0]  # of a text every mistake is found by one of our own checks
        raise UsageError(f"--release {mistake['loc'][0]}: {mistake['ctx']['error']}") from error
