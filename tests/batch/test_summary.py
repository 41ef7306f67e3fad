"""A batch's page: all of it, the worst first, escaped, the same each time, bearable when large."""

import re
from html import unescape
from pathlib import Path
from typing import Any, get_args
from urllib.parse import unquote

import pytest

from erasepro_convert.batch.ledger import Entry, Figures, InputRecord, Outcome, OutputRecord
from erasepro_convert.batch.summary import ATTENTION, OUTCOMES, write_summary

EVIL = "<script>alert(1)</script>\x1b[31m\u202e\udc80"


def entry(output: str, outcome: Outcome = "done", **changes: Any) -> Entry:
    """What a batch would have written down."""
    here = outcome in ("done", "linked")
    fields: dict[str, Any] = {
        "output": output,
        "outcome": outcome,
        "reason": None if here else f"{output} is {outcome}\nfor two reasons",
        "tool": "1.2.3",
        "recipe": "van-gogh",
        "recipe_sha256": "c" * 64,
        "options_sha256": "0" * 64,
        "input": InputRecord(
            path=f"in/{output}", size=2_000_000_000, state="", fingerprint=None, sha256=("a" * 64,)
        ),
        "written": OutputRecord(
            size=1, sha256=("b" * 64,), manifest="x.manifest.json", manifest_sha256="d" * 64
        )
        if here
        else None,
        "same_as": None,
        "figures": Figures(leak=0.25, drift=0.125, relative_update=0.5) if here else None,
        "worker": "host:1",
        "finished": "2026-01-02T03:04:05+00:00",
        "seconds": 9.87,
    }
    return Entry.model_construct(**fields | changes)


def page(folder: Path, *entries: Entry) -> str:
    write_summary(folder, {one.output: one for one in entries})
    assert [path.name for path in folder.iterdir()] == ["batch.html"]
    return (folder / "batch.html").read_text("utf-8")


def test_each_outcome_has_a_meaning() -> None:
    assert set(OUTCOMES) == set(get_args(Outcome))
    assert set(OUTCOMES) == {"done", "linked", *ATTENTION}


def test_the_page_holds_what_the_record_says(tmp_path: Path) -> None:
    shown = page(tmp_path, entry("a/x.safetensors"))
    for part in (
        "a/x.safetensors",
        "in/a/x.safetensors, 2.0 GB",
        "van-gogh",
        "a" * 64,
        "b" * 64,
        "c" * 64,
        "d" * 64,
        "<small>cccccccc</small>",
        "0.25",
        "0.12",
        "0.50",
        "9.9",
        "2026-01-02 03:04:05, host:1",
        "erasepro-convert 1.2.3",
    ):
        assert part in shown
    assert shown.count('class="bar"><i') == 22


def test_counts_come_first_then_what_needs_attention_then_all(tmp_path: Path) -> None:
    outcomes: tuple[Outcome, ...] = get_args(Outcome)
    shown = page(tmp_path, *(entry(f"{outcome}.safetensors", outcome) for outcome in outcomes))
    headings = re.findall("<h[12].*?>(.*?)<", shown)
    assert headings == [
        "Batch of 5 files",
        "Failed",
        "Exceeded",
        "Refused",
        "By recipe",
        "All files",
        "How to verify",
    ]
    for outcome in ATTENTION:
        assert f"<pre>{outcome}.safetensors is {outcome}\nfor two reasons</pre>" in shown
    rows = re.findall(r'<tr id="\d">.*?</tr>', shown, re.DOTALL)
    assert [re.findall(r"\w+\.safetensors", row)[0] for row in rows] == sorted(
        f"{outcome}.safetensors" for outcome in outcomes
    )


def test_files_of_one_reason_stand_together(tmp_path: Path) -> None:
    shown = page(tmp_path, *(entry(f"{i}.safetensors", "failed", reason="lost") for i in range(3)))
    assert shown.count("<pre>lost</pre>") == 1
    assert shown.count("<h3>") == 3


@pytest.mark.parametrize(
    ("output", "manifest", "found"),
    [
        ("a b/ü#%?.safetensors", "ü#%?.manifest.json", "a b/ü#%?.manifest.json"),
        ("model/", "manifest.json", "model/manifest.json"),
        ("javascript:x.safetensors", "javascript:x.manifest.json", "javascript:x.manifest.json"),
    ],
)
def test_an_output_leads_to_its_manifest(
    output: str, manifest: str, found: str, tmp_path: Path
) -> None:
    written = OutputRecord(size=1, sha256=(), manifest=manifest, manifest_sha256="d" * 64)
    shown = page(tmp_path, entry(output, written=written))
    link = re.findall(r'<a href="([^#"]*manifest.json)"', shown)[0]
    assert re.fullmatch(r"[\w/%.-]+", link), "nothing in it means anything in an address"
    assert unquote(link) == found


def test_a_linked_output_says_to_which(tmp_path: Path) -> None:
    shown = page(
        tmp_path,
        entry("a.safetensors"),
        entry("b.safetensors", "linked", same_as="a.safetensors"),
        entry("c.safetensors", "linked", same_as="gone.safetensors"),
    )
    assert 'to <a href="#0">a.safetensors</a>' in shown
    assert "to gone.safetensors<" in shown


def test_a_line_for_each_recipe_leads_to_its_worst_files(tmp_path: Path) -> None:
    shown = page(
        tmp_path,
        entry("a", figures=Figures(leak=0.1, drift=0.9, relative_update=0)),
        entry("b", figures=Figures(leak=0.7, drift=0.2, relative_update=0)),
        entry("c", "refused", recipe="other", recipe_sha256="e" * 64),
    )
    other, van_gogh = re.findall(r"<details><summary>[ec]{8}</summary>.*?</tr>", shown, re.DOTALL)
    assert re.findall(r">([\d.–]+)<", other) == ["0", "0", "0", "0", "1", "–", "–"]
    assert re.findall(r">([\d.–]+)<", van_gogh) == ["2", "0", "0", "0", "0", "0.70", "0.90"]
    assert re.findall(r'href="(.*?)"', van_gogh) == ["#1", "#0"]


def test_what_strangers_wrote_is_text(tmp_path: Path) -> None:
    evil = entry(f"{EVIL}.safetensors", recipe=EVIL, worker=EVIL, same_as=EVIL, tool=EVIL)
    shown = page(tmp_path, evil, entry("b", "failed", reason=f"{EVIL}\n{EVIL}", finished=EVIL))
    assert "<script" not in shown
    assert not [c for c in shown if not c.isprintable() and c != "\n"]
    assert r"<script>alert(1)</script>\x1b[31m\u202e\udc80" in unescape(shown)
    assert not re.findall(r"(?:src=|url\(|https?:)", shown), "it asks nobody for anything"


def test_the_same_entries_give_the_same_page(tmp_path: Path) -> None:
    entries = [entry(f"{number}.safetensors") for number in range(9)]
    assert page(tmp_path, *entries) == page(tmp_path, *reversed(entries))


def test_an_input_of_two_recipes_is_one_input(tmp_path: Path) -> None:
    both = entry("a"), entry("b", input=entry("a").input)
    assert "<p>2.0 GB of inputs" in page(tmp_path, *both)


def test_no_entries_at_all(tmp_path: Path) -> None:
    assert "Batch of 0 files" in page(tmp_path)


@pytest.mark.slow
def test_ten_thousand_files(tmp_path: Path) -> None:
    name = "some/folder/a-model-with-a-name-as-they-are-v2.0-pruned-{}.safetensors"
    page(tmp_path, *(entry(name.format(number)) for number in range(10_000)))
    assert (tmp_path / "batch.html").stat().st_size < 10_000_000
