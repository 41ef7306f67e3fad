"""What a refusal says: grouped, at most ten lines, and no two advices against each other."""

from collections.abc import Callable

import pytest

from erasepro_convert.manifest import Change, Feed, ProbeRecord, PromptMeasure
from erasepro_convert.probing.limits import exceeded
from erasepro_convert.recipe import Recipe

MakeRecipe = Callable[[str], Recipe]
TARGETS = [f"target {letter}" for letter in "abcdefghij"]
TEN = "version: 1\nconcepts:\n" + "".join(
    f"  - {{target: {target}, anchor: dog}}\n" for target in TARGETS
)


def measures(
    value: float, concepts: list[str | None], distance: float
) -> tuple[PromptMeasure, ...]:
    return tuple(
        PromptMeasure(
            feed=Feed(text_encoder=encoder, clip_skip=1),
            concept=concept,
            prompts=1,
            before=1.0,
            mean=value,
            worst=value,
            worst_prompt="a picture",
            by_prompt={"a picture": value},
            distance_before=distance,
            distance_after=distance,
        )
        for encoder in ("edited", "stock")
        for concept in concepts
    )


def said(
    recipe: Recipe, leak: float, drift: float, distance: float = 1.4, update: float = 0.1
) -> str:
    targets = [concept.target for concept in recipe.concepts]
    probe = ProbeRecord(
        leak=measures(leak, [*targets], distance), drift=measures(drift, [None], distance)
    )
    edit = Change(
        name="w",
        shape=(1,),
        dtype="F32",
        changed=True,
        norm=1,
        update_norm=1,
        relative_update=update,
    )
    return "\n".join(exceeded(recipe, probe, [edit]))


def test_what_holds_is_not_mentioned(make_recipe: MakeRecipe) -> None:
    assert said(make_recipe(TEN), leak=0.49, drift=0.29, update=50) == ""


def test_ten_leaking_concepts_are_one_line(make_recipe: MakeRecipe) -> None:
    text = said(make_recipe(TEN), leak=0.7, drift=0.8)
    assert "'target a' 0.70, 'target b' 0.70, 'target c' 0.70 and 7 more of 10 concepts" in text
    assert "with the edited and the stock text encoder; most at 'a picture' (0.70)" in text
    assert "drift is 0.80, above the limit of 0.3" in text
    assert len(text.splitlines()) <= 4


@pytest.mark.parametrize(
    ("settings", "leaks", "drifts"),
    [
        ("", "raise strength", "lower strength"),
        ("tolerance: 0.2\n", "lower the tolerance", "raise the tolerance"),
        ("tolerance: 0\n", "", "raise the tolerance"),
        ("method: uce\n", "", ""),
        ("method: esd-x\nlimits: {leak: 0.5}\n", "", ""),
    ],
)
def test_advice_is_what_the_recipe_can_do(
    settings: str, leaks: str, drifts: str, make_recipe: MakeRecipe
) -> None:
    recipe = make_recipe(TEN + settings)
    for text, advice in ((said(recipe, 0.7, 0.1), leaks), (said(recipe, 0.1, 0.7), drifts)):
        knobs = ("raise strength", "lower strength", "lower the tolerance", "raise the tolerance")
        assert {knob for knob in knobs if knob in text} == ({advice} if advice else set())
    both = said(recipe, 0.7, 0.7)
    assert "more erasure means more change here" in both
    assert not any(knob in both for knob in ("strength", "tolerance"))
    assert ("layers: {text_encoder: none}" in both) == bool(recipe.layers.text_encoder)


def test_it_says_that_the_model_hardly_tells_target_and_anchor_apart(
    make_recipe: MakeRecipe,
) -> None:
    recipe = make_recipe(TEN)
    text = said(recipe, leak=0.7, drift=0.1, distance=0.3)
    assert "this model hardly tells 'target a' from 'dog', 'target b' from 'dog'" in text
    assert "hardly" not in said(recipe, leak=0.7, drift=0.1)
    assert "hardly" not in said(recipe, leak=0.1, drift=0.7, distance=0.3)
