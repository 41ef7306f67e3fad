"""I2P, and COCO's captions: in its own JSON and in the CSVs of papers on erasure.

A row stands for one picture with its own seed.
"""

from collections.abc import Iterator
from pathlib import Path

from erasepro_convert.datasets.cells import SEEDS, first_of, guidance_scale, whole_number
from erasepro_convert.datasets.csv_reader import CsvReader
from erasepro_convert.datasets.published import PublishedPrompt
from erasepro_convert.errors import UsageError


def read_i2p(table: CsvReader) -> Iterator[PublishedPrompt]:
    """Give I2P's prompts: ``prompt``, ``categories`` and ``sd_seed``, at times a guidance scale.

    Papers on erasure call seed and scale ``evaluation_seed`` and ``evaluation_guidance``.
    """
    guidance = first_of(table, "sd_guidance_scale", "evaluation_guidance")
    for number, row in enumerate(table):
        yield PublishedPrompt(
            text=row["prompt"],
            concept=row["categories"],
            role="implied",
            prompt_id=f"i2p-{row.get('case_number', number)}",
            path=table.path,
            place=table.place,
            seed=whole_number(table, row, "sd_seed" if "sd_seed" in row else "evaluation_seed"),
            guidance=guidance_scale(table, row, guidance),
        )


def read_captions(table: CsvReader) -> Iterator[PublishedPrompt]:
    """Give captions from a CSV with ``coco_id`` or ``image_id``, and ``prompt`` or ``text``.

    The seed is ``evaluation_seed``, and the image's number in files without that column.
    """
    image = first_of(table, "coco_id", "image_id") or ""
    text = first_of(table, "prompt", "text") or ""
    seed = first_of(table, "evaluation_seed") or image
    for row in table:
        number = whole_number(table, row, image)
        yield _caption(row[text], number, whole_number(table, row, seed), table.path, table.place)


def read_coco(path: Path, annotations: list[object]) -> Iterator[PublishedPrompt]:
    """Give each image's first caption, with the image's number as its seed.

    ``annotations`` are pairs of image and caption, as ``read_json`` leaves them.  Raises UsageError
    for an annotation of another form.
    """
    seen = set()
    for index, entry in enumerate(annotations):
        match entry:
            case (int(image), str(text)) if 0 <= image < SEEDS:
                if image not in seen:
                    seen.add(image)
                    yield _caption(text, image, image, path, f": annotations[{index}]")
            case _:
                raise UsageError(
                    f"{path}: annotations[{index}]: image_id should be a number, caption text"
                )


def _caption(text: str, image: int, seed: int, path: Path, place: str) -> PublishedPrompt:
    return PublishedPrompt(text, text, "other", f"coco-{image}", path, place, seed=seed)
