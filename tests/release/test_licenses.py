"""Licences as Hugging Face names them."""

import re
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from erasepro_convert import convert, recipe_from_yaml
from erasepro_convert.release.licenses import IDENTIFIERS, License, hub_license, license_warning
from tests.conftest import VAN_GOGH, Cli


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


@pytest.mark.parametrize("command", ["card", "evidence"])
@pytest.mark.parametrize("states", ["recipe", "option"])
def test_a_licence_that_is_not_the_originals_is_warned_of(
    command: str, states: str, cli: Cli, checkpoint_file: Path, tmp_path: Path
) -> None:
    source, output = tmp_path / "in.safetensors", tmp_path / "out.safetensors"
    save_file(load_file(checkpoint_file), source, metadata={"modelspec.license": "OpenRAIL"})
    stated = "release: {license: mit}" if states == "recipe" else ""
    manifest = convert(recipe_from_yaml(f"{VAN_GOGH}{stated}\n"), source, output)
    assert manifest.output.metadata["modelspec.license"] == ("mit" if stated else "OpenRAIL")
    option = () if stated else ("--release", "license=mit")
    ran = cli(command, output, *option)
    assert ran.code == 0
    assert "states the licence mit, the original's metadata OpenRAIL: see to it" in ran.err
    assert cli("verify", output, "--base", source, "--replay").code == 0
    ran = cli(command, output, "--force", "--release", "license=openrail")
    assert (ran.code, ran.err) == (0, "")
    again = convert(
        recipe_from_yaml(f"{VAN_GOGH}release: {{license: cc0-1.0}}\n".replace("Gogh", "Dyck")),
        output,
        tmp_path / "again.safetensors",
    )
    assert again.output.metadata["erasepro.original_license"] == "OpenRAIL"


def test_nothing_is_said_where_nothing_is_known() -> None:
    assert license_warning("mit", {}) is None
    assert license_warning(None, {"modelspec.license": "mit"}) is None
    assert license_warning("Apache 2.0", {"modelspec.license": "apache-2.0"}) is None
