"""CLIP's tokenizer as transformers loads it: the files of SD1.5's ``tokenizer`` folder."""

from pathlib import Path
from tempfile import TemporaryDirectory
from threading import RLock
from typing import Any

from transformers import CLIPTokenizerFast

from erasepro_convert.clip.tokenizer import BOS_TEXT, EOS_TEXT, vocabulary
from erasepro_convert.runtime.hashing import pretty_json
from erasepro_convert.sd1.keys import POSITIONS


class ThreadSafeTokenizer(CLIPTokenizerFast):  # type: ignore[misc]  # the library has no types
    """A tokenizer whose two methods that diffusers calls can be used by several threads.

    Each call sets padding and truncation, which older tokenizers refuse while another call runs
    ("Already borrowed").
    """

    _lock = RLock()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call CLIPTokenizerFast's method, one thread at a time."""
        with self._lock:
            return super().__call__(*args, **kwargs)

    def tokenize(self, *args: Any, **kwargs: Any) -> Any:
        """Call CLIPTokenizerFast's method, one thread at a time."""
        with self._lock:
            return super().tokenize(*args, **kwargs)


def clip_tokenizer() -> CLIPTokenizerFast:
    """Make transformers' tokenizer with the vocabulary of this package.

    It is read from files because the arguments of its constructor differ between transformers
    4 and 5.
    """
    with TemporaryDirectory() as folder:
        write_vocabulary(Path(folder))
        tokenizer = CLIPTokenizerFast.from_pretrained(folder, local_files_only=True)
    tokenizer.__class__ = ThreadSafeTokenizer  # transformers 4 warns if it loads another class
    return tokenizer


def write_tokenizer(folder: Path) -> None:
    """Write the files of SD1.5's ``tokenizer`` folder, and tokenizer.json for other readers."""
    write_vocabulary(folder)
    tokenizer = CLIPTokenizerFast.from_pretrained(folder, local_files_only=True)
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))


def write_vocabulary(folder: Path) -> None:
    """Write the four files of SD1.5's own folder, which every version of transformers reads."""
    words, merges = vocabulary()
    start, end = _control(BOS_TEXT), _control(EOS_TEXT)
    tokens = {"bos_token": start, "eos_token": end, "pad_token": EOS_TEXT, "unk_token": end}
    kind = {"__type": "AddedToken"}
    configuration = {
        "add_prefix_space": False,
        "bos_token": start | kind,
        "do_lower_case": True,
        "eos_token": end | kind,
        "errors": "replace",
        "model_max_length": POSITIONS,
        "name_or_path": "openai/clip-vit-large-patch14",
        "pad_token": EOS_TEXT,
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
    """Return the description of one of CLIP's two control tokens."""
    flags = {"lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
    return {"content": content, **flags}
