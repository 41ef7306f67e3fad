"""A comparison of methods: what each gets of a recipe, what is marked, and the command."""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.console import Console
from safetensors.torch import save_file

from erasepro_convert.cli.compare import comparison_tables
from erasepro_convert.compare import conversion, run
from erasepro_convert.compare.columns import Column, columns
from erasepro_convert.compare.conversion import Cost, convert_measured
from erasepro_convert.compare.output import format_estimate
from erasepro_convert.compare.run import Comparison
from erasepro_convert.compare.variants import METHODS, NO_LIMITS, PAPER, SOLVED, recipe_for_method
from erasepro_convert.errors import UsageError
from erasepro_convert.evaluate.image_store import Pictures
from erasepro_convert.evaluate.judges.mean_metric import mean_metric
from erasepro_convert.evaluate.judges.share_metric import share_metric
from erasepro_convert.evaluate.metrics.intervals import Interval
from erasepro_convert.evaluate.metrics.rates import holm, mcnemar, mean_score
from erasepro_convert.evaluate.plan import EvalPrompt
from erasepro_convert.evaluate.results import Better, Estimate, Metric
from erasepro_convert.manifest import manifest_path, read_manifest
from erasepro_convert.recipe import Recipe, load_recipe
from erasepro_convert.recipe import methods as registry
from erasepro_convert.sd1.statements import CLIP_SKIP_METADATA
from tests.conftest import PLAIN, SHORT, Cli, copy_of_demo
from tests.miniature import State

MakeRecipe = Callable[[str], Recipe]

PROMPTS, SEEDS = 10, 5


def pictures(concept: str = "cat") -> Pictures:
    asked = [EvalPrompt(concept, "dog", "target", f"{concept} {i}", str(i)) for i in range(PROMPTS)]
    owners = tuple(one for one in asked for _ in range(SEEDS))
    return Pictures(owners, tuple(Path(f"{i}.png") for i in range(len(owners))))


def seen(hits: Sequence[bool], better: Better = "lower", concept: str = "cat") -> Metric:
    return share_metric("judge", concept, "T", better, pictures(concept), [True] * 50, hits)


def seen_in_few(hits: Sequence[bool], concept: str = "cat") -> Metric:
    """One seed of each of a few prompts."""
    n = range(len(hits))
    asked = tuple(EvalPrompt(concept, "dog", "target", f"{concept} {i}", str(i)) for i in n)
    few = Pictures(asked, tuple(Path(f"{i}.png") for i in n))
    return share_metric("judge", concept, "T", "lower", few, [True] * len(hits), hits)


def scored(scores: Sequence[float], better: Better = "higher") -> Metric:
    return mean_metric("judge", "cat", "A", better, pictures(), [0.0] * 50, scores)


def only(figures: Mapping[str, Sequence[Metric]]) -> Column:
    (column,) = columns(figures, next(iter(figures)))
    return column


def test_a_clear_win_is_marked_and_a_tie_is_not() -> None:
    some = [i % 5 == 0 for i in range(50)]  # one seed of each prompt
    column = only({"a": [seen([False] * 50)], "b": [seen(some)], "c": [seen([True] * 50)]})
    assert {method for method, cell in column.cells.items() if cell.best} == {"a"}
    column = only({"a": [seen(some)], "b": [seen(some)], "c": [seen([True] * 50)]})
    assert not any(cell.best for cell in column.cells.values())
    assert {m: cell.beats for m, cell in column.cells.items()} == {
        "a": ("c",),
        "b": ("c",),
        "c": (),
    }
    better = only({"a": [seen(some, "higher")], "c": [seen([True] * 50, "higher")]})
    assert [m for m, cell in better.cells.items() if cell.best] == ["c"]


def test_flips_are_tested_against_the_reference_and_adjusted_for_all() -> None:
    few, many = [i < 3 for i in range(50)], [i < 30 for i in range(50)]
    column = only({"a": [seen([False] * 50)], "b": [seen(few)], "c": [seen(many)]})
    assert column.cells["a"].against is None
    p_values = [mcnemar([False] * 50, hits).p for hits in (few, many)]
    found = [column.cells[m].against for m in ("b", "c")]
    assert [against.p for against in found if against] == list(holm(p_values))
    assert [against.difference.value for against in found if against] == [0.06, 0.6]


def test_scores_are_compared_picture_by_picture() -> None:
    """Prompts differ much more than methods do, and one is better in each of them."""
    base = [i // 5 * 1.0 for i in range(50)]
    above = [score + 0.1 for score in base]
    column = only({"a": [scored(base)], "b": [scored(above)]})
    assert column.cells["b"].best
    assert not column.cells["a"].best
    against = column.cells["b"].against
    assert against
    assert against.p is None
    assert against.difference.value == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("value", "low", "high", "shown"),
    [
        (0.5, 0.2, 0.8, "0.50 (0.20…0.80)"),
        (0.0167, 0.0028, 0.09, "0.02 (0.00…0.09)"),
        (-0.0003, -0.0018, 0.0013, "-0.0003 (-0.0018…0.0013)"),
        (-0.001, -0.12, 0.01, "0.00 (-0.12…0.01)"),
    ],
)
def test_a_figure_has_as_many_decimals_as_its_interval_allows(
    value: float, low: float, high: float, shown: str
) -> None:
    assert format_estimate(Estimate(value, Interval(low, high))) == shown
    assert format_estimate(Estimate(0.0)) == "0.00"
    assert format_estimate(None) == "–"


def test_few_pictures_that_all_flip_are_chance() -> None:
    """A bootstrap of differences that are all alike has an interval of no width."""
    column = only({"a": [seen_in_few([True] * 4)], "b": [seen_in_few([False] * 4)]})
    against = column.cells["b"].against
    assert against
    assert against.difference == Estimate(-1.0, Interval(-1.0, -1.0))
    assert not column.cells["b"].best


def test_a_single_picture_has_no_interval() -> None:
    column = only({"a": [seen_in_few([True])], "b": [seen_in_few([False])]})
    assert column.cells["b"].against
    assert column.cells["b"].against.difference == Estimate(-1.0)
    assert not column.cells["b"].best


def test_a_figure_of_concepts_with_unlike_numbers_of_prompts_lies_in_its_interval() -> None:
    own = [seen([True] * 50), seen_in_few([False], "hat")]
    value = only({"a": own}).cells["a"].value
    assert value.value == 50 / 51
    assert value.interval
    assert value.value in value.interval


def test_the_same_prompts_of_several_tasks_are_no_more_prompts() -> None:
    """Six erasures that are asked for the same ten others tell of ten prompts."""
    base = [i // 5 * 1.0 for i in range(50)]
    pooled = only({"a": [scored(base)] * 6}).cells["a"].value
    together = {f"cat {i}": [float(i)] * 30 for i in range(PROMPTS)}
    assert pooled.interval == mean_score(together).interval


def test_distances_are_averaged_with_their_ends() -> None:
    own = [
        Metric("judge", concept, "KID", "lower", None, Estimate(value, interval), None, 50, 10)
        for concept, value, interval in (
            ("cat", 0.25, Interval(0.0, 0.5)),
            ("hat", 0.75, Interval(0.5, 1.5)),
        )
    ]
    assert only({"a": own}).cells["a"].value == Estimate(0.5, Interval(0.25, 1.0))


def test_a_method_that_lacks_a_concept_is_in_no_average() -> None:
    one, two = seen([True] * 50), seen([True] * 50, concept="hat")
    assert list(only({"a": [one, two], "b": [one]}).cells) == ["a"]


def test_concepts_are_averaged() -> None:
    own = [seen([True] * 50), seen([i < 25 for i in range(50)], concept="hat")]
    column = only({"a": own})
    assert column.cells["a"].value.value == 0.75
    assert column.cells["a"].value.interval
    assert (column.images, column.prompts) == (100, 20)
    assert column.original == Estimate(1.0, column.original.interval if column.original else None)


def test_distances_are_best_where_intervals_do_not_meet() -> None:
    def distance(value: float, reach: float) -> Metric:
        inside = Estimate(value, Interval(value - reach, value + reach))
        return Metric("judge", None, "KID", "lower", None, inside, None, 50, 10)

    apart = only({"a": [distance(0.1, 0.05)], "b": [distance(0.3, 0.05)]})
    assert apart.cells["a"].best
    close = only({"a": [distance(0.1, 0.15)], "b": [distance(0.3, 0.15)]})
    assert not close.cells["a"].best
    assert close.cells["b"].against is None


def test_a_method_without_a_figure_is_not_in_its_column() -> None:
    (first, second) = columns({"a": [seen([True] * 50)], "b": [scored([1.0] * 50)]}, "a")
    assert [list(column.cells) for column in (first, second)] == [["a"], ["b"]]


def test_each_method_gets_what_it_has(make_recipe: MakeRecipe) -> None:
    said = make_recipe(SHORT + "tolerance: 0.2\nretain: {weight: 3}\nlayers: {unet: mid}\n")
    for method in METHODS:
        mine = recipe_for_method(said, method)
        assert [c.target for c in mine.concepts] == ["Van Gogh"]
        assert mine.limits.drift is None
        assert mine.evaluate == said.evaluate
        assert mine.method == ("erasepro" if method == PAPER else method)
        assert (mine.training is None) == (method in SOLVED)
    for method in ("erasepro", "erasepro-modified"):
        mine = recipe_for_method(said, method)
        assert (mine.tolerance, mine.retain.weight) == (0.2, 3)
        assert mine.layers.unet == ("mid",)
    assert (
        recipe_for_method(said, "uce").layers.unet
        == recipe_for_method(said, "ac").layers.unet
        == ("mid",)
    )
    assert len(recipe_for_method(said, "esd-u").layers.unet) == 7, "what it trains is in no block"
    own = make_recipe(SHORT + "retain: {prompts: [a lamp]}\n")
    assert {recipe_for_method(own, m).retain.prompts for m in METHODS if m != PAPER} == {
        ("a lamp",)
    }
    paper = recipe_for_method(said, PAPER)
    assert (paper.tolerance, paper.retain.weight, paper.pairing) == (0, 0, "position")
    assert paper.concepts[0].prompts == ("{}",)
    trained = recipe_for_method(said, "ac", {"ac": {"steps": 3}}).training
    assert trained
    assert (trained.steps, trained.batch) == (3, 4)


def test_the_papers_settings_are_those_of_its_recipe(make_recipe: MakeRecipe) -> None:
    said = make_recipe(SHORT + "tokens: all\nlayers: {unet: mid}\n")
    theirs = load_recipe(Path("recipes/paper/van-gogh.yaml"))
    assert recipe_for_method(said, PAPER) == theirs.changed(name=said.name)


def test_methods_of_other_papers_solve_for_the_bare_name(make_recipe: MakeRecipe) -> None:
    said = make_recipe("version: 1\nconcepts: [{target: Van Gogh, anchor: artist}]\n")
    assert recipe_for_method(said, "speed").concepts[0].prompts == ("{}",)
    assert len(recipe_for_method(said, "trce").concepts[0].prompts) == 8


def test_layers_of_the_text_encoder_go_to_methods_that_edit_it(make_recipe: MakeRecipe) -> None:
    said = make_recipe(SHORT + "layers: {text_encoder: 1-6, unet: mid}\n")
    for method, text in (("erasepro-modified", 6), ("difference-projector", 0), ("speed", 0)):
        mine = recipe_for_method(said, method).layers
        assert (len(mine.text_encoder), mine.unet) == (text, ("mid",))


def test_settings_of_another_method_do_not_go_to_erasepro(make_recipe: MakeRecipe) -> None:
    uce = make_recipe(SHORT + "method: uce\n")
    assert recipe_for_method(uce, "erasepro").tolerance == make_recipe(SHORT).tolerance
    bare = "version: 1\nconcepts: [{target: Van Gogh, anchor: artist}]\n"
    for method in ("uce", "speed", "trce"):
        theirs = make_recipe(bare + f"method: {method}\n")
        assert recipe_for_method(theirs, "erasepro") == make_recipe(bare).changed(limits=NO_LIMITS)
    esd = make_recipe(SHORT + "method: esd-x\ntraining: {steps: 7}\n")
    same = recipe_for_method(esd, "esd-x").training
    assert same
    assert same.steps == 7
    assert recipe_for_method(esd, "erasepro").retain == make_recipe(SHORT).retain


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_of_demo(tmp_path_factory.mktemp("compare"))


def silent(*_: object) -> None:
    """Report nothing."""


@pytest.mark.slow
def test_costs_are_measured_once(
    base: Path, tmp_path: Path, make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, target = recipe_for_method(make_recipe(SHORT), "uce"), tmp_path / "uce.safetensors"
    cost = convert_measured(recipe, base, target, silent)
    assert cost.seconds > 0
    assert cost.peak > 10**8, "torch alone takes more"
    assert cost.parameters == 2 * 96 * (
        48 + 48 + 96 * 2 + 128 * 2 + 128 + 128 * 3 + 96 * 3 + 48 * 3
    )
    assert 0 < cost.relative_update < 1
    with monkeypatch.context() as patch:
        patch.setattr(conversion, "get_context", None)  # there would be no process
        assert convert_measured(recipe, base, target, silent) == cost
    whole = target.read_bytes()
    target.write_bytes(whole[:1000])
    convert_measured(recipe, base, target, silent)
    assert target.read_bytes() == whole, "what is damaged is made anew"
    other = recipe.changed(name="other")
    written = target.stat().st_mtime_ns
    convert_measured(other, base, target, silent)
    assert target.stat().st_mtime_ns != written


@pytest.mark.slow
def test_what_the_input_decides_is_no_other_recipe(
    tmp_path: Path, state: State, make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clip skip that its metadata asks for."""
    source, target = tmp_path / "in.safetensors", tmp_path / "erasepro.safetensors"
    save_file(state, source, metadata={CLIP_SKIP_METADATA: "2"})
    recipe = make_recipe(SHORT + PLAIN)
    cost = convert_measured(recipe, source, target, silent)
    manifest = read_manifest(manifest_path(target))
    assert manifest.recipe.clip_skip == (1, 2)
    monkeypatch.setattr(conversion, "get_context", None)
    assert convert_measured(recipe, source, target, silent) == cost


def test_a_file_that_no_comparison_made_is_left_alone(
    base: Path, tmp_path: Path, make_recipe: MakeRecipe
) -> None:
    target = tmp_path / "uce.safetensors"
    target.write_bytes(b"somebody's")
    with pytest.raises(UsageError, match="no comparison made it"):
        convert_measured(recipe_for_method(make_recipe(SHORT), "uce"), base, target, silent)
    assert target.read_bytes() == b"somebody's"


@pytest.mark.slow
def test_why_a_conversion_failed(base: Path, tmp_path: Path, make_recipe: MakeRecipe) -> None:
    target = tmp_path / "no" / "uce.safetensors"
    with pytest.raises(UsageError, match="no"):
        convert_measured(recipe_for_method(make_recipe(SHORT), "uce"), base, target, silent)


@pytest.mark.slow
def test_the_command(base: Path, tmp_path: Path, cli: Cli) -> None:
    recipe = tmp_path / "recipe.yaml"
    text = "version: 1\nconcepts: [{target: snoopy, anchor: dog}]\nevaluate: {steps: 2, seeds: 1}\n"
    recipe.write_text(text, encoding="utf-8")
    words: list[Any] = ["compare", recipe, base, "--methods", "erasepro,uce", "--out", tmp_path]
    ran = cli(*words)
    assert ran.code == 0, ran.err
    for said in ("original", "uce", "peak MB", "KIDp O"):
        assert said in ran.out
    data = json.loads((tmp_path / "comparison.json").read_text("utf-8"))
    assert (data["reference"], list(data["costs"])) == ("erasepro", ["erasepro", "uce"])
    rows = list(csv.DictReader((tmp_path / "comparison.csv").read_text("utf-8").splitlines()))
    assert {row["method"] for row in rows} == {"original", "erasepro", "uce"}
    assert "| uce |" in (tmp_path / "comparison.md").read_text("utf-8")
    with Image.open(tmp_path / "comparison.png") as grid:
        assert grid.width > 3 * 96
    drawn = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.png")}
    refused = cli(*words)
    assert refused.code == 2
    assert "comparison.json: exists already; --force replaces it" in refused.err
    again = cli(*words, "--force", "--quiet", "--json")
    assert (again.code, again.out) == (0, (tmp_path / "comparison.json").read_text("utf-8"))
    pictures = [path for path in drawn if path.parent.name == "pictures"]
    assert all(path.stat().st_mtime_ns == drawn[path] for path in pictures)
    assert json.loads((tmp_path / "comparison.json").read_text("utf-8")) == data


def test_methods_that_there_are_not(base: Path, cli: Cli, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(SHORT, encoding="utf-8")
    ran = cli("compare", recipe, base, "--methods", "uce,mace")
    assert ran.code == 2
    assert "'mace' is none of erasepro, erasepro-paper" in ran.err


def test_all_methods_can_be_asked_for(
    base: Path, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(SHORT, encoding="utf-8")
    asked = []

    def stop(
        _: Recipe, base: object, methods: Sequence[str], *rest: object, **more: object
    ) -> None:
        asked.append(methods)
        raise UsageError("enough")

    monkeypatch.setattr(run, "compare", stop)
    assert cli("compare", recipe, base, "--methods", "all", "--out", tmp_path / "out").code == 2
    assert asked == [METHODS]
    assert {*METHODS} == {*registry.METHODS, PAPER}


def test_tables_fit_into_a_hundred_characters() -> None:
    names = ("KID A", "KID T", "KIDp T", "KID O", "KIDp O", "FID O")
    value = Estimate(-0.0123, Interval(-0.0104, 0.0184))
    figures = [Metric("judge", None, name, "lower", value, value, None, 50, 10) for name in names]
    shown = Comparison(
        tool="0", recipe_sha256="0", original_sha256="0", reference="erasepro",
        columns=tuple(columns(dict.fromkeys(METHODS, figures), "erasepro")),
        costs=dict.fromkeys(METHODS, Cost(1234.5, 12_345_678_901, 123_456_789, 12.3456)),
        exceeded={}, failed={}, warnings=(), missing=(),
        evaluations=dict.fromkeys(METHODS),  # type: ignore[arg-type]  # only names are looked at
    )  # fmt: skip
    console = Console(width=100, record=True, file=StringIO())
    for table in comparison_tables(shown):
        console.print(table)
    assert console.export_text().count("-0.010…0.018") == len(names) * len(METHODS)
