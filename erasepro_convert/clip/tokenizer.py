"""CLIP's tokenizer: it turns prompts into token ids, and tells which tokens words became."""

import gzip
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from tokenizers import AddedToken, Regex, Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import BPE

from erasepro_convert.errors import RecipeError
from erasepro_convert.runtime.printable import quoted
from erasepro_convert.sd1.keys import BOS, EOS, POSITIONS, VOCABULARY

MERGES = VOCABULARY - 2 - 2 * 256  # all tokens but two for each byte and two control tokens
WORD_END = "</w>"
BOS_TEXT, EOS_TEXT = "<|startoftext|>", "<|endoftext|>"

# CLIP's split of a text into words (Radford et al., 2021; simple_tokenizer.py).
_WORDS = (
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d"
    r"|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)


@dataclass(frozen=True)
class Tokens:
    """A tokenised prompt.

    ``ids`` has 77 entries: BOS, the words, EOS, and EOS again as padding.  ``count`` is the number
    of entries that are not padding.  ``spans`` gives the characters (start, end) of each word's
    tokens.
    """

    ids: tuple[int, ...]
    count: int
    spans: tuple[tuple[int, int], ...]

    @property
    def words(self) -> tuple[int, ...]:
        """The ids without BOS, EOS and padding."""
        return self.ids[1 : self.count - 1]

    def covering(self, start: int, end: int) -> tuple[int, int]:
        """Return the positions (first, last + 1) of the tokens that overlap characters start … end.

        Raises RecipeError when no token does.
        """
        overlapping = [
            position
            for position, (first, last) in enumerate(self.spans, start=1)
            if first < end and last > start
        ]
        if not overlapping:
            raise RecipeError("a target or anchor consists of characters that CLIP does not read")
        return overlapping[0], overlapping[-1] + 1


def tokenize(prompt: str, *, as_drawn: bool = False) -> Tokens:
    """Tokenise ``prompt`` as Stable Diffusion 1.x does.

    With ``as_drawn`` this is what pictures of any prompt are drawn from: what does not fit into 77
    tokens is cut off, and CLIP's control tokens can be spelled out.  Raises RecipeError for such
    prompts otherwise.
    """
    encoding = _tokenizer().encode(prompt, add_special_tokens=False)
    words, spans = encoding.ids, encoding.offsets
    if as_drawn:
        words, spans = words[: POSITIONS - 2], spans[: POSITIONS - 2]
    if len(words) > POSITIONS - 2:
        raise RecipeError(
            f"prompt has {len(words) + 2} tokens, {POSITIONS} is the most that the model reads: "
            f"{quoted(prompt, 80)}"
        )
    if not as_drawn and (BOS in words or EOS in words):
        raise RecipeError(f"prompt contains one of CLIP's control tokens: {quoted(prompt, 80)}")
    return as_tokens(words, spans)


def as_tokens(words: Sequence[int], spans: Iterable[tuple[int, int]] = ()) -> Tokens:
    """Return the prompt of these token ids, which fit into it."""
    padding = [EOS] * (POSITIONS - 1 - len(words))
    return Tokens((BOS, *words, *padding), len(words) + 2, tuple(spans))


def decode(token: int) -> str:
    """Return the text of a token id, for messages."""
    piece = _tokenizer().id_to_token(token)
    return "" if piece is None else piece.replace(WORD_END, "")


@cache
def _tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(BPE(*vocabulary(), end_of_word_suffix=WORD_END))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in (BOS_TEXT, EOS_TEXT)])
    return tokenizer


def vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """CLIP's 49408 tokens in order, and its merges, from the file that OpenAI published."""
    data = files("erasepro_convert.clip").joinpath("bpe_simple_vocab_16e6.txt.gz").read_bytes()
    lines = gzip.decompress(data).decode().split("\n")[1 : 1 + MERGES]
    merges = [(left, right) for left, right in (line.split() for line in lines)]
    letters = list(_byte_letters())
    pieces = letters + [letter + WORD_END for letter in letters]
    pieces += [left + right for left, right in merges] + [BOS_TEXT, EOS_TEXT]
    return {piece: number for number, piece in enumerate(pieces)}, merges


def _byte_letters() -> list[str]:
    """Return a printable letter for each byte in CLIP's order: printable Latin-1, then the rest."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + n) for n in range(len(others))]
