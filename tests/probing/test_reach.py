"""Reach of concepts, as it is measured beside leak and drift."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from erasepro_convert.clip.tokenizer import tokenize
from erasepro_convert.probing.key_value_distance import Goal, KeyValueDistance
from erasepro_convert.probing.leak_drift import measure_leak_and_drift
from erasepro_convert.recipe import Recipe
from tests import oracle
from tests.conftest import PROBED
from tests.miniature import State, state_dict

MakeRecipe = Callable[[str], Recipe]


def reaches(
    recipe: Recipe, original: State, edited: State, already_erased: set[str] | None = None
) -> dict[tuple[str, int], float]:
    record = measure_leak_and_drift(
        recipe,
        original.__getitem__,
        edited.__getitem__,
        already_erased=already_erased or (),
    )
    return {(r.concept, r.clip_skip): r.reach for r in record.reach}


def test_it_is_the_least_distance_at_the_positions_that_differ(
    make_recipe: MakeRecipe, state: State
) -> None:
    """With transformers' features, at positions counted by hand."""
    other = state_dict(seed=1)
    found = reaches(make_recipe(PROBED), state, other)
    old, new = oracle.text_model(state), oracle.text_model(other)
    pairs = [
        ("Van Gogh in the rain", "artist in the rain", [1, 2, 3, 4, 5, 6], [1, 1, 2, 3, 4, 5]),
        ("an old Van Gogh", "an old artist", [3, 4, 5], [3, 3, 4]),  # "an old" is in both
    ]
    assert found.keys() == {("Van Gogh", 1), ("Van Gogh", 2)}
    for (_, skip), reach in found.items():

        def fed(model: object, text: str, places: list[int], skip: int = skip) -> Tensor:
            ids = list(tokenize(text).ids)
            return torch.tensor(oracle.features(model, ids, None, skip)[:, places]).T

        def common(model: object) -> Tensor:
            others = [("a house", [1, 2, 3]), ("a cat at night", [1, 2, 3, 4, 5])]
            return torch.cat([fed(model, text, places) for text, places in others]).mean(0)

        goal = Goal(
            torch.cat([fed(old, target, places) for target, _, places, _ in pairs]),
            torch.cat([fed(old, anchor, places) for _, anchor, _, places in pairs]),
            common(old),
        )
        form = KeyValueDistance.of(state.__getitem__, other.__getitem__, goal, common(new))
        assert reach == pytest.approx(form.reach, rel=1e-4)
        assert reach > 0.1


def test_the_original_reaches_all_of_its_targets(make_recipe: MakeRecipe, state: State) -> None:
    assert set(reaches(make_recipe(PROBED), state, state).values()) == {0.0}


def test_without_any_keys_and_values_nothing_is_reached(
    make_recipe: MakeRecipe, state: State
) -> None:
    """Nor is anything reached where the original has none: there the target has no distance."""
    recipe = make_recipe(PROBED)
    blank = {**state, **{name: 0 * state[name] for name in oracle.kv_names()}}
    assert min(reaches(recipe, state, blank).values()) > 0.1
    assert reaches(recipe, blank, state) == {}


def test_a_target_that_was_erased_before_has_none(make_recipe: MakeRecipe, state: State) -> None:
    recipe = make_recipe(PROBED)
    snoopy = {"target": "snoopy", "anchor": "dog"}
    two = recipe.changed(concepts=[*(c.model_dump() for c in recipe.concepts), snoopy])
    found = reaches(two, state, state_dict(seed=1), {"snoopy"})
    assert {concept for concept, _ in found} == {"Van Gogh"}
