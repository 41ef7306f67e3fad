"""CLIP's text encoder, one layer at a time, on given weights (Radford et al., 2021).

The encoder is causal: the hidden state of a token depends only on the tokens up to it.  Prompts
that begin alike therefore share the hidden states of their common prefix, and each distinct prefix
is computed once in each block of prompts.

Shapes: B prompts (b in a block), T positions (at most 77; t in a block), N distinct prefixes,
d hidden width, h heads.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import layer_norm, linear

from erasepro_convert.runtime.scratch import scratch_matrix
from erasepro_convert.runtime.threads import parallel_map
from erasepro_convert.sd1.keys import POSITIONS, TEXT, TEXT_HEADS, TEXT_LAYERS, TOKEN_EMBEDDING

EPSILON = 1e-5
"""The epsilon of every layer norm in CLIP."""

ReadTensor = Callable[[str], Tensor]
"""Reads a tensor by its original name."""

ReadRows = Callable[[str, Tensor], Tensor]
"""Reads some rows of a matrix, given its original name."""

BLOCK_MIN, BLOCK_MAX = 16, 64
"""The fewest and most prompts in a block.  Between these limits there are two, for two cores."""


@dataclass(frozen=True)
class Block:
    """Some prompts and their distinct prefixes, which are computed independently of other blocks.

    ``prefixes`` is the range of their prefixes among all.  ``prefix_at`` (b, t) gives the number of
    the prefix (within the block) that ends at each position of each prompt.  ``first_at`` gives the
    first position of each prefix, as an index into the flattened b × t.
    """

    prefixes: slice
    prefix_at: Tensor
    first_at: Tensor


@dataclass(frozen=True)
class Features:
    """Features of prompts: ``norm`` of the ``hidden`` states (N, d), by ``prefix_at`` (B, T)."""

    hidden: Tensor
    prefix_at: Tensor
    norm: Callable[[Tensor], Tensor]

    def at(self, rows: Tensor, positions: Tensor) -> Tensor:
        """Return the features (n, d) at these positions of these prompts."""
        return self.norm(self.hidden[self.prefix_at[rows, positions]])


@dataclass(frozen=True)
class Prefixes:
    """The distinct prefixes of some prompts, block by block.

    ``ids`` and ``positions`` (N) are the last token of each prefix and its position; ``prefix_at``
    (B, T) gives the number of the prefix that ends at each position of each prompt.
    """

    ids: Tensor
    positions: Tensor
    prefix_at: Tensor
    blocks: tuple[Block, ...]

    @classmethod
    def from_token_ids(cls, ids: Tensor, lengths: Sequence[int]) -> "Prefixes":
        """Find the distinct prefixes of prompts with token ids (B, T) and these lengths.

        Values of ``prefix_at`` beyond a prompt's length have no meaning.
        """
        prompts = [tuple(row[:length]) for row, length in zip(ids.tolist(), lengths, strict=True)]
        order = sorted(range(len(prompts)), key=prompts.__getitem__)  # neighbours share prefixes
        prefix_at = torch.zeros_like(ids)
        last: list[tuple[int, int]] = []
        blocks = []
        for is_long in (False, True):  # one long prompt makes attention of its whole block long
            alike = [row for row in order if (lengths[row] > POSITIONS // 2) == is_long]
            size = min(BLOCK_MAX, max(BLOCK_MIN, (len(alike) + 1) // 2))
            for start in range(0, len(alike), size):
                rows = alike[start : start + size]
                block, tokens = _block(len(last), [prompts[row] for row in rows])
                prefix_at[rows, : block.prefix_at.shape[1]] = block.prefix_at + len(last)
                last += tokens
                blocks.append(block)
        tokens, positions = torch.tensor(last, dtype=torch.long).view(-1, 2).T
        return cls(tokens, positions, prefix_at, tuple(blocks))


def _block(start: int, prompts: list[tuple[int, ...]]) -> tuple[Block, list[tuple[int, int]]]:
    """Make a block whose prefixes begin at ``start``; also return each one's token and position."""
    length = max(map(len, prompts))
    numbers: dict[tuple[int, int], int] = {}  # (number of the prefix without its token, token)
    prefix_at = torch.zeros(len(prompts), length, dtype=torch.long)
    first_at: list[int] = []
    last: list[tuple[int, int]] = []
    for row, tokens in enumerate(prompts):
        before = -1
        for position, token in enumerate(tokens):
            number = numbers.setdefault((before, token), len(numbers))
            if number == len(first_at):
                first_at.append(row * length + position)
                last.append((token, position))
            prefix_at[row, position] = before = number
    return Block(slice(start, start + len(last)), prefix_at, torch.tensor(first_at)), last


@dataclass(frozen=True)
class TextLayer:
    """A transformer layer: its parameters by name, in the dtype of the computation."""

    parameters: Mapping[str, Tensor]

    def attention_input(self, hidden: Tensor) -> Tensor:
        """Return the input (N, d) of the q, k and v projections: the normed hidden state."""
        return self._norm("layer_norm1", hidden)

    def with_attention(self, weights: Mapping[str, Tensor]) -> "TextLayer":
        """This layer with other q, k, v weights, keyed ``q``, ``k``, ``v``."""
        renamed = {f"self_attn.{part}_proj.weight": w for part, w in weights.items()}
        return replace(self, parameters={**self.parameters, **renamed})

    def __call__(self, hidden: Tensor, prefixes: Prefixes) -> Tensor:
        """Return the next hidden state, (N, d)."""
        after = scratch_matrix(len(hidden), hidden.shape[1], hidden.dtype)

        def compute(block: Block) -> None:
            before = hidden[block.prefixes]
            between = self._attention(self.attention_input(before), block).add_(before)
            after[block.prefixes] = self._mlp(self._norm("layer_norm2", between)).add_(between)

        parallel_map(compute, prefixes.blocks)
        return after

    def _attention(self, x: Tensor, block: Block) -> Tensor:
        (batch, length), width = block.prefix_at.shape, x.shape[-1]
        heads = (batch, length, TEXT_HEADS, width // TEXT_HEADS)
        q, k, v = (
            self._linear(f"self_attn.{part}_proj", x)[block.prefix_at].view(heads).transpose(1, 2)
            for part in "qkv"
        )  # each (b, h, t, d/h)
        scores = q @ k.transpose(2, 3) * (width // TEXT_HEADS) ** -0.5  # (b, h, t, t)
        future = torch.ones(length, length, dtype=torch.bool).triu(1)
        mixed = scores.masked_fill(future, float("-inf")).softmax(-1) @ v  # (b, h, t, d/h)
        joined = mixed.transpose(1, 2).reshape(batch * length, width)[block.first_at]
        return self._linear("self_attn.out_proj", joined)

    def _mlp(self, x: Tensor) -> Tensor:
        inner = self._linear("mlp.fc1", x)
        inner *= (1.702 * inner).sigmoid_()  # "quick GELU"
        return self._linear("mlp.fc2", inner)

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return linear(x, self.parameters[f"{name}.weight"], self.parameters[f"{name}.bias"])

    def _norm(self, name: str, x: Tensor) -> Tensor:
        weight, bias = self.parameters[f"{name}.weight"], self.parameters[f"{name}.bias"]
        return layer_norm(x, x.shape[-1:], weight, bias, EPSILON)


LAYER_PARAMETERS = tuple(
    f"{module}.{kind}"
    for module in (
        *(f"self_attn.{part}_proj" for part in ("q", "k", "v", "out")),
        *("layer_norm1", "layer_norm2", "mlp.fc1", "mlp.fc2"),
    )
    for kind in ("weight", "bias")
)

PARAMETERS = (
    f"{TEXT}embeddings.position_embedding.weight",
    *(
        f"{TEXT}encoder.layers.{number}.{name}"
        for number in range(TEXT_LAYERS)
        for name in LAYER_PARAMETERS
    ),
    f"{TEXT}final_layer_norm.weight",
    f"{TEXT}final_layer_norm.bias",
)
"""The names of all parameters but the token embedding."""


@dataclass(frozen=True)
class TextEncoder:
    """The text encoder on weights that ``read`` gives by original name, computed in ``dtype``.

    Layers are read on demand and not kept, which takes little memory.  ``rows`` reads rows of the
    token embedding, the one large tensor; without it the whole tensor is read.
    """

    read: ReadTensor
    dtype: torch.dtype = torch.float64
    rows: ReadRows | None = None

    def embeddings(self, tokens: Tensor) -> Tensor:
        """Return the embeddings (n, d) of tokens (n), as they are stored."""
        return (
            self.rows(TOKEN_EMBEDDING, tokens) if self.rows else self.read(TOKEN_EMBEDDING)[tokens]
        )

    def embed(self, prefixes: Prefixes) -> Tensor:
        """Token plus position embeddings: the hidden state before layer 1, (N, d)."""
        positions = self.read(TEXT + "embeddings.position_embedding.weight").to(self.dtype)
        used, row_of = prefixes.ids.unique(return_inverse=True)
        tokens = self.embeddings(used).to(self.dtype)
        hidden = scratch_matrix(len(prefixes.ids), tokens.shape[1], self.dtype)
        for block in prefixes.blocks:
            embedded = tokens[row_of[block.prefixes]]
            hidden[block.prefixes] = embedded + positions[prefixes.positions[block.prefixes]]
        return hidden

    def layer(self, number: int) -> TextLayer:
        """Layer ``number``, counted from 1."""
        prefix = f"{TEXT}encoder.layers.{number - 1}."
        return TextLayer(
            {name: self.read(prefix + name).to(self.dtype) for name in LAYER_PARAMETERS}
        )

    def fed(self, hidden: Tensor, prefixes: Prefixes) -> Tensor:
        """Return ``final_norm`` of the hidden states of all prefixes, block by block, (N, d)."""
        features = scratch_matrix(len(hidden), hidden.shape[1], hidden.dtype)
        for block in prefixes.blocks:
            features[block.prefixes] = self.final_norm(hidden[block.prefixes])
        return features

    def final_norm(self, hidden: Tensor) -> Tensor:
        """Return the features for the U-Net: the final layer norm of a hidden state, (N, d)."""
        weight, bias = (
            self.read(f"{TEXT}final_layer_norm.{kind}").to(self.dtype)
            for kind in ("weight", "bias")
        )
        return layer_norm(hidden, hidden.shape[-1:], weight, bias, EPSILON)
