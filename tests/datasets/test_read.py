"""I2P and COCO captions in the formats that they are published in; the rows here are ours."""

import json
import tracemalloc
from pathlib import Path

import pytest

from erasepro_convert.datasets import json_file
from erasepro_convert.datasets.published import PublishedPrompt
from erasepro_convert.datasets.read import read_dataset
from erasepro_convert.errors import UsageError

PERCENTAGES = (
    "prompt,categories,hard,inappropriate_percentage,nudity_percentage,q16_percentage,"
    "sd_safety_percentage,prompt_toxicity,lexica_url,"
)
SIZE = ",sd_image_width,sd_image_height,sd_model"
I2P = f"{PERCENTAGES}sd_seed,sd_guidance_scale{SIZE}\n"
ERASURE = f",{PERCENTAGES}evaluation_seed,evaluation_guidance{SIZE},case_number\n"
VALUES = "0,50.0,0.0,50.0,20.0,0.17,https://example.org/1"
TAIL = "512,512,stable-diffusion-v1-4"


def read(tmp_path: Path, text: str | bytes, name: str = "rows.csv") -> list[PublishedPrompt]:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return list(read_dataset(path))


def test_i2p(tmp_path: Path) -> None:
    """Its prompts have blanks, commas and ends of lines; its seeds need more than 31 bits."""
    path = tmp_path / "rows.csv"
    rows = read(
        tmp_path,
        f'{I2P}" a storm, oil ","violence, self-harm",{VALUES},4261553411,13,{TAIL}\n'
        f'"two\nlines",shocking,{VALUES},7,7.5,{TAIL}\n',
    )
    assert rows == [
        PublishedPrompt(
            " a storm, oil ",
            "violence, self-harm",
            "implied",
            "i2p-0",
            path,
            ":2",
            seed=4261553411,
            guidance=13.0,
        ),
        PublishedPrompt(
            "two\nlines", "shocking", "implied", "i2p-1", path, ":4", seed=7, guidance=7.5
        ),
    ]


def test_i2p_as_papers_on_erasure_have_it(tmp_path: Path) -> None:
    (row,) = read(tmp_path, f"{ERASURE}5,a storm,hate,{VALUES},7,,{TAIL},321\n")
    assert (row.text, row.concept, row.prompt_id) == ("a storm", "hate", "i2p-321")
    assert (row.seed, row.guidance) == (7, None)


@pytest.mark.parametrize(
    "text",
    [
        "case_number,prompt,evaluation_seed,coco_id\n0,A dog on a boat.,41337,203564\n",
        "case_number,source,prompt,evaluation_seed,coco_id\n0,c,A dog on a boat.,41337,203564\n",
        "image_id,source,prompt,evaluation_seed\n000000203564,coco-30k,A dog on a boat.,41337\n",
    ],
)
def test_coco_as_papers_on_erasure_have_it(tmp_path: Path, text: str) -> None:
    (row,) = read(tmp_path, text)
    assert row.text == row.concept == "A dog on a boat."
    assert (row.role, row.prompt_id, row.seed) == ("other", "coco-203564", 41337)


def test_coco_without_seeds(tmp_path: Path) -> None:
    """SPEED's and HUB's copies have no seeds: the image's number is one, as in COCO's own file."""
    (row,) = read(tmp_path, "image_id,text\r\n521669,A dog on a boat.\r\n")
    assert (row.text, row.role, row.prompt_id) == ("A dog on a boat.", "other", "coco-521669")
    assert row.seed == 521669


def captions(*annotations: object) -> str:
    images = [{"id": 9, "file_name": "COCO_val2014_000000000009.jpg", "height": 1, "width": 1}]
    info = {"info": {"year": 2014}, "licenses": [], "images": images}
    return json.dumps({**info, "annotations": annotations})


def test_coco_as_it_is_published(tmp_path: Path) -> None:
    """Of an image's captions the first one counts."""
    text = captions(
        {"image_id": 9, "id": 1, "caption": "A dog."},
        {"image_id": 4, "id": 2, "caption": "A boat."},
        {"image_id": 9, "id": 3, "caption": "A wet dog."},
    )
    rows = read(tmp_path, text, "captions_val2014.json")
    assert [(row.text, row.role, row.prompt_id, row.seed) for row in rows] == [
        ("A dog.", "other", "coco-9", 9),
        ("A boat.", "other", "coco-4", 4),
    ]


COCO = "prompt,evaluation_seed,coco_id\n"
BAD: dict[str, tuple[str | bytes, str, str]] = {
    # what is wrong: (the file, the line, what the message must say)
    "a seed that is none": (COCO + "a,1,2\na,x,2\n", ":3", "evaluation_seed 'x' is no whole"),
    "a seed that torch refuses": (COCO + f"a,{1 << 64},2\n", ":2", "is no whole number"),
    "a seed with a point": (COCO + "a,1.0,2\n", ":2", "is no whole number"),
    "an image that is none": (COCO + "a,1,\n", ":2", "coco_id '' is no whole number"),
    "a missing value": (COCO + "a,1\n", ":2", "2 values for 3 columns"),
    "a line in quotes": (COCO + '"a\nb",1,2\n"c\nd",x,2\n', ":5", "is no whole number"),
    "a quote that never ends": (COCO + '"a,1,2\n', ":2", "not CSV: unexpected end"),
    "no text": (COCO.encode() + b"a,1,2\n\xff,1,2\n", ":3", "is not UTF-8 text"),
    "a line without end": (COCO + "a" * (1 << 20), ":2", "a line of over 1048576 bytes"),
    "no guidance": (I2P + f"a,b,{VALUES},1,x,{TAIL}\n", ":2", "'x' is no guidance scale"),
    "endless guidance": (I2P + f"a,b,{VALUES},1,inf,{TAIL}\n", ":2", "is no guidance scale"),
    "other columns": ("a,b\n1,2\n", "", "its columns, a, b, are those of no known dataset: I2P"),
    "no seeds": ("prompt,coco_id\n", "", "its columns, prompt, coco_id, are those of no"),
    "nothing": ("", "", "its columns, none, are those of no"),
    "unfinished JSON": ('{"annotations":\n [', ":2", "not JSON"),
    "deep JSON": ('{"a":' * 100_000, "", "not JSON"),
    "other JSON": ('{"images": 0}', "", "has the keys of no known dataset"),
    "a caption alone": ('{"caption": "a"}', "", "has the keys of no known dataset"),
    "a list of words": ('["a"]', "", "has the keys of no known dataset"),
    "no caption": (captions({"image_id": 9}), "", "annotations[0]: image_id should be"),
    "a caption that is none": (
        captions({"image_id": 9, "caption": "a"}, {"image_id": "8", "caption": "b"}),
        "",
        "annotations[1]: ",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_files_that_are_none(tmp_path: Path, case: str) -> None:
    content, line, message = BAD[case]
    with pytest.raises(UsageError) as caught:
        read(tmp_path, content)
    assert str(caught.value).startswith(f"{tmp_path / 'rows.csv'}{line}: ")
    assert message in str(caught.value)


def test_large_json_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_file, "LARGEST_JSON", 20)
    with pytest.raises(UsageError, match="has 21 bytes"):
        read(tmp_path, '{"annotations": [  ]}')


def test_what_comes_before_a_mistake_is_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(COCO + "a,1,2\nb,x,2\n")
    assert next(read_dataset(path)).text == "a"


@pytest.mark.slow
def test_rows_are_not_kept(tmp_path: Path) -> None:
    """30,000 captions, a megabyte and a half of them, in a few pages of memory."""
    path = tmp_path / "coco.csv"
    path.write_text(COCO + "".join(f"{'a dog ' * 8},{i},{i}\n" for i in range(30_000)))
    tracemalloc.start()
    try:
        assert sum(1 for _ in read_dataset(path)) == 30_000
        assert tracemalloc.get_traced_memory()[1] < 300_000
    finally:
        tracemalloc.stop()
