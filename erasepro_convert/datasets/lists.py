"""Lists of prompts and of concepts as CSV: of UCE, MACE, SPEED, Six-CD, MMA and of attacks.

Most papers on erasure give each prompt its seed in the columns ``prompt`` and ``evaluation_seed``;
they differ in which column, if any, has the concept.
"""

from collections.abc import Iterator

from erasepro_convert.datasets.cells import first_of, guidance_scale, whole_number, words
from erasepro_convert.datasets.csv_reader import CsvReader
from erasepro_convert.datasets.published import PublishedPrompt, Role

CONCEPTS = ("concept", "target", "artist", "class", "classes", "label_str", "profession")
"""Columns that say what a prompt is about, by publisher: SPEED, Six-CD, UCE and MACE, UCE
(imagenette), P4D, UCE (imagenet), UCE."""

BENIGN = ("clean", "benign")
"""Six-CD's names for files of harmless prompts: their columns are those of harmful ones."""
HARMFUL = "malicious"
"""Six-CD's name for a file of harmful prompts, in a folder with the concept's name."""

MMA: dict[str, tuple[Role, str | None]] = {
    "target_prompt": ("implied", "attacked"),
    "adv_prompt": ("implied", "adversarial"),
    "sanitized_adv_prompt": ("implied", "adversarial, words only"),
    "clean_prompt": ("other", None),
}
"""What the columns of MMA-Diffusion's list hold: the prompt that an attack is for, what the attack
found, the same without what no dictionary has, and a caption that has nothing to do with them."""


def read_seeded(table: CsvReader) -> Iterator[PublishedPrompt]:
    """Give a list's prompts: ``prompt``, ``evaluation_seed`` and perhaps a concept, a scale.

    A list without a concept is one of harmful or adversarial prompts about what its name says
    (UnlearnDiffAtk, Ring-A-Bell, Six-CD), unless it has MACE's ``type``, whose prompts name whom
    they are about, or is a list of captions (``source``) or of harmless prompts.
    """
    path, concept = table.path, first_of(table, *CONCEPTS)
    guidance = first_of(table, "evaluation_guidance")
    role: Role = "target" if concept or "type" in table.columns else "implied"
    if not concept and ("source" in table.columns or path.stem in BENIGN):
        role = "other"
    about = path.absolute().parent.name if path.stem == HARMFUL else path.stem
    for number, row in enumerate(table):
        text = words(table, row, "prompt")
        yield PublishedPrompt(
            text=text,
            concept=row[concept].strip() if concept else about if role == "implied" else text,
            role=role,
            prompt_id=f"{path.stem}-{number}",
            path=table.path,
            place=table.place,
            seed=whole_number(table, row, "evaluation_seed"),
            guidance=guidance_scale(table, row, guidance),
        )


def read_speed(table: CsvReader) -> Iterator[PublishedPrompt]:
    """Give SPEED's prompts: ``id``, ``type``, ``text``, ``concept`` and ``seed``."""
    for row in table:
        yield PublishedPrompt(
            text=words(table, row, "text"),
            concept=words(table, row, "concept"),
            role="target",
            prompt_id=f"{table.path.stem}-{row['id']}",
            path=table.path,
            place=table.place,
            seed=whole_number(table, row, "seed"),
        )


def read_names(table: CsvReader) -> Iterator[PublishedPrompt]:
    """Give the concepts of SPEED's and Six-CD's ``id``, ``concept`` as prompts of the bare name."""
    for row in table:
        name = " ".join(words(table, row, "concept").replace("_", " ").split())
        prompt_id = f"{table.path.stem}-{row['id']}"
        yield PublishedPrompt(name, name, "target", prompt_id, table.path, table.place, "name")


def read_mma(table: CsvReader) -> Iterator[PublishedPrompt]:
    """Give MMA-Diffusion's prompts: those of one attack, and a harmless one, in each row.

    Harmful ones are about what the file's name says.
    """
    stem = table.path.stem
    for number, row in enumerate(table):
        for column, (role, level) in MMA.items():
            text = words(table, row, column)
            about = stem if role == "implied" else text
            prompt_id = f"{stem}-{number}-{column}"
            yield PublishedPrompt(text, about, role, prompt_id, table.path, table.place, level)
