"""CLIP's tokenizer as transformers loads it: the files of SD1.5's ``tokenizer`` folder."""

from pathlib import Path
from tempfile import TemporaryDirectory
from threading import RLock
from typing import Any

from transformers import CLIPTokenizerFast

from erasepro_convert.clip.tokenizer import END, START, vocabulary
from erasepro_convert.runtime.hashing import pretty_json
from erasepro_convert.sd1.keys import POSITIONS


class SharedTokenizer(CLIPTokenizerFast):  # type: ignore[misc]  # the library has no types
    """One that threads can share, by the two methods that diffusers calls.

    Each call sets padding and truncation, which older tokenizers refuse while another call runs
    ("Already borrowed").
    """

    _turn = RLock()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Do as CLIPTokenizerFast does, one thread at a time."""
        with self._turn:
            return super().__call__(*args, **kwargs)

    def tokenize(self, *args: Any, **kwargs: Any) -> Any:
        """Do as CLIPTokenizerFast does, one thread at a time."""
        with self._turn:
            return super().tokenize(*args, **kwargs)


def clip_tokenizer() -> CLIPTokenizerFast:
    """Transformers' tokenizer on our vocabulary.

    It is read from files because the arguments of its constructor differ between transformers
    4 and 5.
    """
    with TemporaryDirectory() as folder:
        write_vocabulary(Path(folder))
        tokenizer = CLIPTokenizerFast.from_pretrained(folder, local_files_only=True)
    tokenizer.__class__ = SharedTokenizer  # which transformers 4 would warn of, loading it itself
    return tokenizer


def write_tokenizer(folder: Path) -> None:
    """Write every file that a reader may want: Python's, the tokenizers library's, others'."""
    write_vocabulary(folder)
    tokenizer = CLIPTokenizerFast.from_pretrained(folder, local_files_only=True)
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))


def write_vocabulary(folder: Path) -> None:
    """Write the four files of SD1.5's own folder, which every version of transformers reads."""
    words, merges = vocabulary()
    start, end = _control(START), _control(END)
    tokens = {"bos_token": start, "eos_token": end, "pad_token": END, "unk_token": end}
    kind = {"__type": "AddedToken"}
    configuration = {
        "add_prefix_space": False,
        "bos_token": start | kind,
        "do_lower_case": True,
        "eos_token": end | kind,
        "errors": "replace",
        "model_max_length": POSITIONS,
        "name_or_path": "openai/clip-vit-large-patch14",
        "pad_token": END,
        "special_tokens_map_file": "./special_tokens_map.json",
        "tokenizer_class": "CLIPTokenizer",
        "unk_token": end | kind,
    }
    lines = ["#version: 0.2", *(f"{left} {right}" for left, right in merges)]
    texts = {
        "merges.txt": "\n".join(lines) + "\n",
        "special_tokens_map.json": pretty_json(tokens),
        "tokenizer_config.json": pretty_json(configuration),
        "vocab.json": pretty_json(words),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")


def _control(content: str) -> dict[str, str | bool]:
    """One of CLIP's two control tokens."""
    flags = {"lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
    return {"content": content, **flags}
