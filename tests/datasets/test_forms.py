"""Each publisher's layout, rebuilt by hand with words of our own: no data of theirs is here."""

import json
from pathlib import Path

import pytest

from erasepro_convert.datasets.published import PublishedPrompt
from erasepro_convert.datasets.read import read_dataset
from erasepro_convert.errors import UsageError


def read(tmp_path: Path, name: str, content: object) -> list[PublishedPrompt]:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return list(read_dataset(path))


def short(prompts: list[PublishedPrompt]) -> list[tuple[str, str, str, str | None, int | None]]:
    return [(p.text, p.concept, p.role, p.level, p.seed) for p in prompts]


@pytest.mark.parametrize(
    ("name", "role", "level"),
    [
        ("1_name", "target", "name"),
        ("2_prefix", "target", "prefix"),
        ("3_variant", "target", "variant"),
        ("4_short", "target", "short"),
        ("5_long", "target", "long"),
        ("6_random", "other", None),
        ("7_hard", "near", None),
    ],
)
def test_emma(tmp_path: Path, name: str, role: str, level: str | None) -> None:
    """Most of its files are lists of objects; two of the art ones are one object."""
    objects = [{"tea-pot": ["an image of the teapot", "a pot"]}, {"kite": ["a kite"]}]
    expected = [
        ("an image of the teapot", "tea-pot", role, level, None),
        ("a pot", "tea-pot", role, level, None),
        ("a kite", "kite", role, level, None),
    ]
    assert short(read(tmp_path, f"object/{name}.json", objects)) == expected
    as_one = {**objects[0], **objects[1]}
    assert short(read(tmp_path, f"art/{name}.json", as_one)) == expected


def test_mace_paraphrases_are_words(tmp_path: Path) -> None:
    (row,) = read(tmp_path, "10_objects_paraphrase.json", {"kettle": ["boiler"]})
    assert short([row]) == [("boiler", "kettle", "target", "variant", None)]


def test_hub(tmp_path: Path) -> None:
    """Files without columns: a line is a prompt, and commas and quotes are part of it."""
    lines = 'Kettle on a hill, at dawn\n\n"Kettle" and cups,\n'
    assert short(read(tmp_path, "target_image/Kettle.csv", lines)) == [
        ("Kettle on a hill, at dawn", "Kettle", "target", None, None),
        ('"Kettle" and cups,', "Kettle", "target", None, None),
    ]
    assert short(read(tmp_path, "attack_robustness/Kettle.csv", "kettl whistlng\n")) == [
        ("kettl whistlng", "Kettle", "implied", "attack", None)
    ]
    languages = "Original,Spanish,French,German,Italian,Portuguese,Index\nb,c,d,e,f,g,1824\n"
    found = read(tmp_path, "multilingual_robustness/Kettle.csv", languages)
    assert [(p.text, p.level) for p in found] == [
        ("b", "original"),
        ("c", "spanish"),
        ("d", "french"),
        ("e", "german"),
        ("f", "italian"),
        ("g", "portuguese"),
    ]
    nouns = "noun,similarity\n" + "".join(f"pot{i},0.8\n" for i in range(120))
    found = read(tmp_path, "pinpoint_ness/Kettle.csv", nouns)
    assert len(found) == 100, "HUB draws the first hundred"
    assert short(found[:1]) == [("a photo of pot0", "Kettle", "near", None, None)]
    sentences = [{"prompt": "A kettle sings.", "nouns": ["kettle"], "index": 7}]
    assert short(read(tmp_path, "selective_alignment/Kettle.json", sentences)) == [
        ("A kettle sings.", "Kettle", "target", None, None)
    ]


TABLES = {
    # layout: (file, its text, the first prompt)
    "SPEED": (
        "10_celebrity.csv",
        "id,type,text,concept,seed\r\n1,erase,A portrait of Ada Kite,Ada Kite,4\r\n",
        ("A portrait of Ada Kite", "Ada Kite", "target", None, 4),
    ),
    "SPEED's and Six-CD's concepts": (
        "Celebrity.csv",
        "id,concept\n0,ada_kite\n",
        ("ada kite", "ada kite", "target", "name", None),
    ),
    "MACE's celebrities": (
        "celebrity_1_concepts.csv",
        ",type,prompt,evaluation_seed\n0,erased,A portrait of Ada Kite,1\n",
        ("A portrait of Ada Kite", "A portrait of Ada Kite", "target", None, 1),
    ),
    "MACE's artists": (
        "art_100_concepts.csv",
        ",type,artist,prompt,evaluation_seed\n0,0,Ada Kite,Art by Ada Kite,1\n",
        ("Art by Ada Kite", "Ada Kite", "target", None, 1),
    ),
    "UCE's artists": (
        "artists1734_prompts.csv",
        ",case_number,prompt,evaluation_seed,artist\n0,0,Art by A.Kite,2657,A.Kite\n",
        ("Art by A.Kite", "A.Kite", "target", None, 2657),
    ),
    "UCE's imagenette": (
        "imagenette.csv",
        "case_number,prompt,class,evaluation_seed\r\n0,an image of a kite,kite,11\r\n",
        ("an image of a kite", "kite", "target", None, 11),
    ),
    "UCE's imagenet": (
        "imagenet_prompts.csv",
        ",case_number,evaluation_seed,prompt,label_idx,label_str\n0,0,4,image of  pot,0, pot\n",
        ("image of  pot", "pot", "target", None, 4),
    ),
    "P4D's objects": (
        "objects.csv",
        ",case_number,prompt,evaluation_seed,classes,evaluation_guidance\n0,9,a kite,5,kite,7.5\n",
        ("a kite", "kite", "target", None, 5),
    ),
    "UnlearnDiffAtk's objects": (
        "tea_pot.csv",
        "case_number,prompt,evaluation_seed,evaluation_guidance\n0,Steam above cups.,69922,7.5\n",
        ("Steam above cups.", "tea_pot", "implied", None, 69922),
    ),
    "UnlearnDiffAtk's captions": (
        "coco_10k.csv",
        "case_number,source,prompt,evaluation_seed\n000000203564,coco-30k,A boat.,41337\n",
        ("A boat.", "A boat.", "other", None, 41337),
    ),
    "Ring-A-Bell": (
        "Storm_eta_5_K_77.csv",
        "prompt,case_number,evaluation_seed\nwindd gusty \ufffd\ufffd rrain,0,41\n",
        ("windd gusty \ufffd\ufffd rrain", "Storm_eta_5_K_77", "implied", None, 41),
    ),
    "Six-CD, two versions": (
        "Character/malicious.csv",
        "case_number,evaluation_seed,target,prompt\n0,29,Tin Man,Tin Man is skiing\n",
        ("Tin Man is skiing", "Tin Man", "target", None, 29),
    ),
    "Six-CD, two versions of a category": (
        "Storm/malicious.csv",
        "case_number,evaluation_seed,prompt\n0,29,a flood\n",
        ("a flood", "Storm", "implied", None, 29),
    ),
    "Six-CD, harmless": (
        "Storm/clean.csv",
        "case_number,evaluation_seed,prompt\n0,29,a picnic\n",
        ("a picnic", "a picnic", "other", None, 29),
    ),
}


@pytest.mark.parametrize("layout", TABLES)
def test_tables(tmp_path: Path, layout: str) -> None:
    name, text, first = TABLES[layout]
    (row,) = read(tmp_path, name, text)
    assert short([row]) == [first]
    assert (row.path, row.place) == (tmp_path / name, ":2")


def test_mma(tmp_path: Path) -> None:
    """Its list is given on request; its columns are those that others' code reads."""
    text = (
        "target_prompt,adv_prompt,sanitized_adv_prompt,success_against_sanitization_defense,"
        "clean_prompt\na flooded town,floo dd tow,tow,True,A bowl of plums.\n"
    )
    found = read(tmp_path, "storm.csv", text)
    assert short(found) == [
        ("a flooded town", "storm", "implied", "attacked", None),
        ("floo dd tow", "storm", "implied", "adversarial", None),
        ("tow", "storm", "implied", "adversarial, words only", None),
        ("A bowl of plums.", "A bowl of plums.", "other", None, None),
    ]
    assert {p.place for p in found} == {":2"}
    assert len({p.prompt_id for p in found}) == 4
    with pytest.raises(UsageError, match=":2: adv_prompt is empty"):
        read(tmp_path, "storm.csv", text.replace("floo dd tow", " "))


def test_guidance_is_read_where_there_is_some(tmp_path: Path) -> None:
    name, text, _ = TABLES["UnlearnDiffAtk's objects"]
    assert read(tmp_path, name, text)[0].guidance == 7.5


BAD = {
    # what is wrong: (file, content, what the message must say after the file's name)
    "EMMA's level": (
        "names.json",
        [{"a": ["b"]}],
        ": EMMA's files say by their names how explicit",
    ),
    "EMMA's prompts": (
        "1_name.json",
        [{"a": ["b"]}, {"c": "d"}],
        ": c: should be a list of prompts",
    ),
    "EMMA's empty prompt": ("1_name.json", [{"a": [" "]}], ": a: should be a list of prompts"),
    "EMMA's empty list": ("1_name.json", [{"a": []}], ": a: should be a list of prompts"),
    "EMMA's object": ("1_name.json", [{"a": ["b"]}, "c"], ": entry 1: should be an object"),
    "HUB's prompt": ("K.json", [{"prompt": 3, "nouns": []}], ": entry 0: prompt should be text"),
    "HUB's language": (
        "K.csv",
        "Original,Spanish,French,German,Italian,Portuguese,Index\nb,c,d,e,f,g,1\nb,,d,e,f,g,1\n",
        ":3: Spanish is empty",
    ),
    "HUB's noun": ("K.csv", "noun,similarity\n,0.8\n", ":2: noun is empty"),
    "SPEED's seed": ("a.csv", "id,type,text,concept,seed\n1,erase,b,c,-1\n", ":2: seed '-1' is no"),
    "SPEED's concept": ("a.csv", "id,type,text,concept,seed\n1,erase,b,,1\n", ":2: concept is em"),
    "a name": ("a.csv", "id,concept\n0,kite\n1,\n", ":3: concept is empty"),
    "a prompt": ("a.csv", "prompt,evaluation_seed\nb,1\n ,2\n", ":3: prompt is empty"),
    "a seed": (
        "a.csv",
        "prompt,evaluation_seed\nb,1\nc,x\n",
        ":3: evaluation_seed 'x' is no whole",
    ),
    "a row": ("a.csv", "prompt,evaluation_seed\nb\n", ":2: it has 1 values for 2 columns"),
}


@pytest.mark.parametrize("case", BAD)
def test_wrong_rows_are_named(tmp_path: Path, case: str) -> None:
    name, content, message = BAD[case]
    with pytest.raises(UsageError) as caught:
        read(tmp_path, name, content)
    assert str(caught.value).startswith(f"{tmp_path / name}{message}")
