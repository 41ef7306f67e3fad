"""The search for settings: what it tries, what it takes, what it records."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from erasepro_convert.conversion.convert import convert
from erasepro_convert.conversion.options import Options
from erasepro_convert.errors import LimitError
from erasepro_convert.manifest import Manifest, Try
from erasepro_convert.recipe import Recipe
from tests.conftest import Cli, WriteRecipe
from tests.miniature import State, state_dict

pytestmark = pytest.mark.slow

MakeRecipe = Callable[[str], Recipe]
AUTO = """\
version: 1
settings: auto
concepts: [{target: Van Gogh, anchor: artist, prompts: ["{}", "a {}", "by {}", "the {}", "{} art"]}]
probe: {prompts: ["an old {}"], others: [a house]}
"""
NO_LIMITS = "limits: {leak: null, drift: null, relative_update: null}\n"


def tuned(recipe: Recipe, source: Path, *, tune: bool = False) -> Manifest:
    options = Options(dry_run=True, tune=tune)
    return convert(recipe, source, Path("x.safetensors"), options, lambda *_: None)


def setting(tried: Try) -> tuple[object, ...]:
    return tried.tolerance, tried.retain_weight, tried.templates, tried.tokens


def test_each_setting_is_tried_around_the_best_so_far(
    make_recipe: MakeRecipe, checkpoint_file: Path
) -> None:
    manifest = tuned(make_recipe(AUTO + NO_LIMITS), checkpoint_file)
    assert manifest.tuning is not None
    tries = manifest.tuning.tries
    assert [t.tolerance for t in tries[:3]] == [0.17, 0.085, 0.34]
    assert [t.retain_weight for t in tries[3:5]] == [1, 100]
    assert tries[5].templates == 4
    assert {t.templates for t in tries} == {5, 4}
    assert setting(tries[6])[3] != "prompt"
    best = tries[manifest.tuning.chosen]
    assert best.leak == min(t.leak for t in tries if t.leak is not None)
    # what was taken is what the manifest holds, and what was measured
    recipe = manifest.recipe
    taken = (recipe.tolerance, recipe.retain.weight, len(recipe.concepts[0].prompts), recipe.tokens)
    assert taken == setting(best)
    assert recipe.settings is None
    assert best.leak == max(m.mean for m in manifest.probe.leak)
    assert best.relative_update == max(edit.relative_update for edit in manifest.edits)


def test_the_option_and_the_key_are_the_same(
    make_recipe: MakeRecipe, checkpoint_file: Path
) -> None:
    by_key = tuned(make_recipe(AUTO + NO_LIMITS), checkpoint_file)
    given = make_recipe(AUTO.replace("settings: auto\n", "name: recipe\n") + NO_LIMITS)
    by_option = tuned(given, checkpoint_file, tune=True)
    assert by_key.output == by_option.output
    assert by_key.recipe_sha256 == by_option.recipe_sha256
    assert by_key.tuning is not None
    assert by_key.tuning.recipe_sha256 == make_recipe(AUTO + NO_LIMITS).digest


def test_the_manifests_recipe_gives_the_same_file_without_a_search(
    make_recipe: MakeRecipe, checkpoint_file: Path
) -> None:
    found = tuned(make_recipe(AUTO + NO_LIMITS), checkpoint_file)
    again = tuned(found.recipe, checkpoint_file)
    assert again.output == found.output
    assert again.tuning is None


def test_what_is_beyond_a_limit_is_taken_last(
    make_recipe: MakeRecipe, checkpoint_file: Path
) -> None:
    """With a limit between the least and the largest drift, the least leak within it wins."""
    free = tuned(make_recipe(AUTO + NO_LIMITS), checkpoint_file).tuning
    assert free is not None
    drifts = sorted(t.drift for t in free.tries[:3] if t.drift is not None)
    limit = (drifts[0] + drifts[1]) / 2
    text = AUTO + NO_LIMITS.replace("drift: null", f"drift: {limit}")
    bound = tuned(make_recipe(text), checkpoint_file).tuning
    assert bound is not None
    best = bound.tries[bound.chosen]
    assert best.within
    assert best.drift is not None
    assert best.drift <= limit
    for tried in bound.tries:
        assert tried.within == (tried.drift is not None and tried.drift <= limit)


def test_a_search_that_finds_nothing_within_the_limits_is_refused(
    cli: Cli, write_recipe: WriteRecipe, checkpoint_file: Path, tmp_path: Path
) -> None:
    recipe = write_recipe(AUTO + "limits: {drift: 0.000001}\n")
    ran = cli(recipe, checkpoint_file, tmp_path / "out.safetensors")
    assert ran.code == 3
    assert "drift with the edited text encoder" in ran.err
    assert not list(tmp_path.glob("out*"))
    ran = cli("--dry-run", recipe, checkpoint_file, tmp_path / "out.safetensors")
    assert ran.out.count("exceeds") == 7
    assert ran.out.count("taken exceeds") == 1


def test_uce_has_fewer_settings(make_recipe: MakeRecipe, checkpoint_file: Path) -> None:
    manifest = tuned(make_recipe(AUTO + NO_LIMITS + "method: uce\n"), checkpoint_file)
    assert manifest.tuning is not None
    assert len(manifest.tuning.tries) == 3


def test_weights_that_do_not_fit_are_recorded(
    make_recipe: MakeRecipe, tmp_path: Path, state: State
) -> None:
    """Every try overflows fp16: the search says so; json holds no NaN."""
    from safetensors.torch import save_file

    huge = {n: t * 1e7 if n.endswith("attn2.to_v.weight") else t for n, t in state_dict().items()}
    assert huge.keys() == state.keys()
    source = tmp_path / "in.safetensors"
    save_file(huge, source)
    options = Options(dry_run=True, dtype="fp16")
    with pytest.raises(LimitError, match=r"no setting that was tried|does not fit"):
        convert(
            make_recipe(AUTO + NO_LIMITS), source, Path("x.safetensors"), options, lambda *_: None
        )


def test_the_manifest_lists_the_tries(
    cli: Cli, write_recipe: WriteRecipe, checkpoint_file: Path, tmp_path: Path
) -> None:
    target = tmp_path / "out.safetensors"
    assert cli("--quiet", write_recipe(AUTO + NO_LIMITS), checkpoint_file, target).code == 0
    manifest = json.loads(target.with_suffix(".manifest.json").read_text())
    assert len(manifest["tuning"]["tries"]) == 7


def test_a_loose_tolerance_is_not_doubled_beyond_what_a_recipe_may_say(
    make_recipe: MakeRecipe, checkpoint_file: Path
) -> None:
    recipe = make_recipe(AUTO + NO_LIMITS + "tolerance: 0.6\n")
    tuning = tuned(recipe, checkpoint_file).tuning
    assert tuning is not None
    assert [tried.tolerance for tried in tuning.tries[:3]] == [0.6, 0.3, 0.9]
