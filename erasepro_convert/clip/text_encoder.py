"""CLIP's text encoder, one layer at a time, on given weights (Radford et al., 2021).

The encoder is causal: what it makes of a token depends on the tokens before it alone.  So prompts
that begin alike share what they begin with, and each distinct beginning is computed once in each
block of prompts.

Shapes: B prompts (b in a block), T positions (at most 77; t in a block), N distinct beginnings,
d hidden width, h heads.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import layer_norm, linear

from erasepro_convert.runtime.scratch import scratch_matrix
from erasepro_convert.runtime.threads import parallel_map
from erasepro_convert.sd1.keys import TEXT, TEXT_HEADS, TOKENS

EPSILON = 1e-5
"""Of every layer norm in CLIP."""

Read = Callable[[str], Tensor]
"""Gives a tensor by its original name."""

Rows = Callable[[str, Tensor], Tensor]
"""Gives some rows of a matrix."""


FEWEST, MOST = 16, 64
"""Prompts that are computed together; between these, all make two blocks, for two cores."""


@dataclass(frozen=True)
class Block:
    """Some prompts and their distinct beginnings, computed by themselves.

    ``nodes`` are their beginnings among all; ``place`` (b, t) says which of them ends at each
    position of each prompt, and ``first`` where (counted through b × t) each is found first.
    """

    nodes: slice
    place: Tensor
    first: Tensor


@dataclass(frozen=True)
class Features:
    """Features of prompts: ``norm`` of the ``hidden`` states (N, d), by ``place`` (B, T)."""

    hidden: Tensor
    place: Tensor
    norm: Callable[[Tensor], Tensor]

    def at(self, rows: Tensor, positions: Tensor) -> Tensor:
        """Features (n, d) at positions of prompts."""
        return self.norm(self.hidden[self.place[rows, positions]])


@dataclass(frozen=True)
class Prefixes:
    """The distinct beginnings of some prompts, block by block.

    ``ids`` and ``positions`` (N) are the last token of each beginning and where it stands;
    ``place`` (B, T) says which beginning ends at each position of each prompt.
    """

    ids: Tensor
    positions: Tensor
    place: Tensor
    blocks: tuple[Block, ...]

    @classmethod
    def of(cls, ids: Tensor, lengths: Sequence[int]) -> "Prefixes":
        """Of token ids (B, T), as far into each prompt as its length says.

        What ``place`` holds beyond that is of no meaning.
        """
        prompts = [tuple(row[:length]) for row, length in zip(ids.tolist(), lengths, strict=True)]
        order = sorted(range(len(prompts)), key=prompts.__getitem__)  # what begins alike, together
        place = torch.zeros_like(ids)
        last: list[tuple[int, int]] = []
        blocks = []
        size = min(MOST, max(FEWEST, (len(order) + 1) // 2))
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            block, tokens = _block(len(last), [prompts[row] for row in rows])
            place[rows, : block.place.shape[1]] = block.place + len(last)
            last += tokens
            blocks.append(block)
        tokens, positions = torch.tensor(last, dtype=torch.long).view(-1, 2).T
        return cls(tokens, positions, place, tuple(blocks))


def _block(start: int, prompts: list[tuple[int, ...]]) -> tuple[Block, list[tuple[int, int]]]:
    """Prompts whose beginnings are counted from ``start`` on, and token and position of each."""
    length = max(map(len, prompts))
    nodes: dict[tuple[int, int], int] = {}  # (the beginning before it, token)
    place = torch.zeros(len(prompts), length, dtype=torch.long)
    first: list[int] = []
    last: list[tuple[int, int]] = []
    for row, tokens in enumerate(prompts):
        before = -1
        for position, token in enumerate(tokens):
            node = nodes.setdefault((before, token), len(nodes))
            if node == len(first):
                first.append(row * length + position)
                last.append((token, position))
            place[row, position] = before = node
    return Block(slice(start, start + len(last)), place, torch.tensor(first)), last


@dataclass(frozen=True)
class TextLayer:
    """One transformer layer: its parameters by name, all in the dtype of the computation."""

    parameters: Mapping[str, Tensor]

    def attention_input(self, hidden: Tensor) -> Tensor:
        """What the q, k and v projections read: layer norm of the hidden state, (N, d)."""
        return self._norm("layer_norm1", hidden)

    def with_attention(self, weights: Mapping[str, Tensor]) -> "TextLayer":
        """This layer with other q, k, v weights, keyed ``q``, ``k``, ``v``."""
        renamed = {f"self_attn.{part}_proj.weight": w for part, w in weights.items()}
        return replace(self, parameters={**self.parameters, **renamed})

    def __call__(self, hidden: Tensor, prefixes: Prefixes) -> Tensor:
        """The next hidden state, (N, d)."""
        after = scratch_matrix(len(hidden), hidden.shape[1], hidden.dtype)

        def of_block(block: Block) -> None:
            before = hidden[block.nodes]
            between = self._attention(self.attention_input(before), block).add_(before)
            after[block.nodes] = self._mlp(self._norm("layer_norm2", between)).add_(between)

        parallel_map(of_block, prefixes.blocks)
        return after

    def _attention(self, x: Tensor, block: Block) -> Tensor:
        (batch, length), width = block.place.shape, x.shape[-1]
        heads = (batch, length, TEXT_HEADS, width // TEXT_HEADS)
        q, k, v = (
            self._linear(f"self_attn.{part}_proj", x)[block.place].view(heads).transpose(1, 2)
            for part in "qkv"
        )  # each (b, h, t, d/h)
        scores = q @ k.transpose(2, 3) * (width // TEXT_HEADS) ** -0.5  # (b, h, t, t)
        future = torch.ones(length, length, dtype=torch.bool).triu(1)
        mixed = scores.masked_fill(future, float("-inf")).softmax(-1) @ v  # (b, h, t, d/h)
        joined = mixed.transpose(1, 2).reshape(batch * length, width)[block.first]
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


@dataclass(frozen=True)
class TextEncoder:
    """The text encoder on weights that ``read`` gives by original name, computed in ``dtype``.

    Layers are read when asked for and not kept: one at a time fits in little memory.  ``rows``
    gives rows of the token embeddings, the one large tensor; without it all of them are read.
    """

    read: Read
    dtype: torch.dtype = torch.float64
    rows: Rows | None = None

    def embed(self, prefixes: Prefixes) -> Tensor:
        """Token plus position embeddings: the hidden state before layer 1, (N, d)."""
        positions = self.read(TEXT + "embeddings.position_embedding.weight").to(self.dtype)
        used, each = prefixes.ids.unique(return_inverse=True)
        tokens = self.rows(TOKENS, used) if self.rows else self.read(TOKENS)[used]
        tokens = tokens.to(self.dtype)
        hidden = scratch_matrix(len(prefixes.ids), tokens.shape[1], self.dtype)
        for block in prefixes.blocks:
            embedded = tokens[each[block.nodes]]
            hidden[block.nodes] = embedded + positions[prefixes.positions[block.nodes]]
        return hidden

    def layer(self, number: int) -> TextLayer:
        """Layer ``number``, counted from 1."""
        prefix = f"{TEXT}encoder.layers.{number - 1}."
        return TextLayer(
            {name: self.read(prefix + name).to(self.dtype) for name in LAYER_PARAMETERS}
        )

    def final_norm(self, hidden: Tensor) -> Tensor:
        """What the U-Net is fed: the final layer norm of a hidden state, (N, d)."""
        weight, bias = (
            self.read(f"{TEXT}final_layer_norm.{kind}").to(self.dtype)
            for kind in ("weight", "bias")
        )
        return layer_norm(hidden, hidden.shape[-1:], weight, bias, EPSILON)
