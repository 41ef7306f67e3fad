"""Licences as Hugging Face names them."""

import re

import pytest

from erasepro_convert.release.licenses import IDENTIFIERS, License, hub_license


@pytest.mark.parametrize(
    ("stated", "identifier"),
    [
        ("creativeml-openrail-m", "creativeml-openrail-m"),
        ("CreativeML OpenRAIL-M", "creativeml-openrail-m"),
        ("Apache-2.0", "apache-2.0"),
        ("openrail++", "openrail++"),
        ("MIT", "mit"),
    ],
)
def test_a_known_licence_has_its_identifier(stated: str, identifier: str) -> None:
    assert hub_license(stated) == License(identifier)


def test_an_address_is_the_link_of_another_licence() -> None:
    link = "https://example.org/licence?v=1"
    assert hub_license(link) == License("other", "custom", link)


@pytest.mark.parametrize(
    ("stated", "name"),
    [
        ("Our Licence 1.0", "our-licence-1.0"),
        ("<b>x</b>\n---", "b-x-b"),
        ("…", "custom"),
        ("javascript:alert(1)", "javascript-alert-1"),
        ("http://a b", "http-a-b"),
    ],
)
def test_any_other_has_a_name_and_a_file(stated: str, name: str) -> None:
    found = hub_license(stated)
    assert found == License("other", name, "LICENSE")
    assert re.fullmatch(r"[a-z0-9.-]+", str(found.name))


def test_the_list_is_of_identifiers() -> None:
    assert "other" not in IDENTIFIERS  # it is for those that are in no list
    assert all(re.fullmatch(r"[a-z0-9.+-]+", identifier) for identifier in IDENTIFIERS)
