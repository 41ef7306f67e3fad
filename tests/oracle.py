"""The paper's algorithms, written a second time and plainly: transformers' CLIP, numpy, float64.

Slow on purpose: whole padded prompts through the whole encoder for every layer, explicit
pseudo-inverse and inverse.  Shares no code with the package but the checkpoint's key names.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import CLIPTextConfig, CLIPTextModel

from tests.miniature import State

TEXT = "cond_stage_model.transformer.text_model."
Matrix = NDArray[np.float64]
Places = list[tuple[list[int], int]]
"""For each column the prompt's token ids and the position in it."""

UNET_BLOCKS = (1, 2, 4, 5, 7, 8), (3, 4, 5, 6, 7, 8, 9, 10, 11)


def text_model(state: State, dtype: torch.dtype = torch.float64) -> CLIPTextModel:
    """Transformers' text encoder with the checkpoint's weights."""
    width = state[TEXT + "final_layer_norm.weight"].shape[0]
    config = CLIPTextConfig(
        vocab_size=49408,
        hidden_size=width,
        intermediate_size=state[TEXT + "encoder.layers.0.mlp.fc1.bias"].shape[0],
        num_hidden_layers=12,
        num_attention_heads=12,
        max_position_embeddings=77,
        hidden_act="quick_gelu",
        bos_token_id=49406,
        eos_token_id=49407,
        # The eager attention is the reference, but takes its softmax in float32 whatever the dtype.
        attn_implementation="sdpa" if dtype == torch.float64 else "eager",
    )
    model = CLIPTextModel(config).to(dtype).eval()
    prefix = "text_model." if any(k.startswith("text_model.") for k in model.state_dict()) else ""
    weights = {
        prefix + name.removeprefix(TEXT): value
        for name, value in state.items()
        if name.startswith(TEXT) and "position_ids" not in name
    }
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert not unexpected
    assert not [name for name in missing if "position_ids" not in name]
    return model


def projections(model: CLIPTextModel, layer: int) -> dict[str, torch.nn.Linear]:
    """q, k, v of a layer (1-based)."""
    attention = getattr(model, "text_model", model).encoder.layers[layer - 1].self_attn
    return {"q": attention.q_proj, "k": attention.k_proj, "v": attention.v_proj}


def features(model: CLIPTextModel, ids: list[int], layer: int | None, skip: int = 1) -> Matrix:
    """d × 77: what layer ``layer``'s projections read, or (None) what the U-Net is fed."""
    caught: list[torch.Tensor] = []
    hook = None
    if layer is not None:
        hook = projections(model, layer)["q"].register_forward_pre_hook(
            lambda module, args: caught.append(args[0])
        )
    with torch.no_grad(), default_dtype(model.dtype):
        output = model(torch.tensor([ids]), output_hidden_states=True)
    if hook is not None:
        hook.remove()
        return caught[0][0].double().numpy().T
    norm = getattr(model, "text_model", model).final_layer_norm
    with torch.no_grad():
        fed: torch.Tensor = norm(output.hidden_states[-skip])
    return fed[0].double().numpy().T


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Transformers 4 fills its causal mask in torch's default type, which must hold ``dtype``."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def stack(model: CLIPTextModel, columns: Places, layer: int | None) -> Matrix:
    read = {ids: features(model, list(ids), layer) for ids in {tuple(ids) for ids, _ in columns}}
    return np.stack([read[tuple(ids)][:, position] for ids, position in columns], axis=1)


def eq5(w: Matrix, x: Matrix, y: Matrix) -> Matrix:
    """Eq. 5 with the pseudo-inverse of the appendix."""
    return w + (w @ y - w @ x) @ np.linalg.pinv(x, rcond=1e-10)


def eq2(w: Matrix, x: Matrix, y: Matrix) -> Matrix:
    """Eq. 2."""
    return (w @ y @ x.T + w) @ np.linalg.inv(x @ x.T + np.eye(len(x)))


def null_space(w: Matrix, x: Matrix, y: Matrix, retained: Matrix, weight: float) -> Matrix:
    """SPEED's formula without its equality constraint, in its own order of factors."""
    eye, moment = np.eye(len(x)), retained @ retained.T
    u, s, _ = np.linalg.svd(moment / moment.diagonal().mean())
    p: Matrix = u[:, s < 1 / weight] @ u[:, s < 1 / weight].T
    delta: Matrix = w @ (y @ x.T - x @ x.T) @ p @ np.linalg.inv(x @ x.T @ p + eye)
    return w + delta


def projection(features: Matrix) -> Matrix:
    """The orthogonal projection on the span of columns."""
    result: Matrix = features @ np.linalg.pinv(features)
    return result


def double_projections(w: Matrix, x: Matrix, y: Matrix, r: Matrix, weight: float) -> Matrix:
    """W(c* − c)xᵀU₂ᵀ / ‖x‖² with x = U₂ᵀc, for one target c."""
    (c,) = x.T
    proxy = y @ np.linalg.inv(y.T @ y) @ y.T @ c
    u, s, _ = np.linalg.svd(r @ r.T / r.shape[1])
    u2 = u[:, s < 1 / weight]
    read = u2.T @ c
    result: Matrix = w + np.outer(w @ (proxy - c), u2 @ read) / (read @ read)
    return result


def cure(w: Matrix, x: Matrix, r: Matrix, alpha: float) -> Matrix:
    """W(I − P_f + P_f P_r) with f(r) = αr / ((α − 1)r + 1)."""

    def spectral(features: Matrix, alpha: float) -> Matrix:
        values, vectors = np.linalg.eigh(features @ features.T)
        share = values / values.sum()
        expanded = np.diag(alpha * share / ((alpha - 1) * share + 1))
        result: Matrix = vectors @ expanded @ vectors.T
        return result

    forget, retain = spectral(x, 2.0), spectral(r, alpha)
    updated: Matrix = w @ (np.eye(len(x)) - forget + forget @ retain)
    return updated


def trce(w: Matrix, x: Matrix, y: Matrix, language: Matrix, eta: float) -> Matrix:
    """The ridge on EOS features, with sums over pairs divided by their number."""
    n = x.shape[1]
    goal = w @ (y @ x.T / n + eta * language)
    result: Matrix = goal @ np.linalg.inv(x @ x.T / n + eta * language)
    return result


def oce(
    w: Matrix, x: Matrix, y: Matrix, r: Matrix, language: Matrix, settings: tuple[float, ...]
) -> Matrix:
    """The rotation of outputs nearest to M, in all m dimensions of a matrix with m ≤ d."""
    erase, preserve, general, identity = settings
    g, g_anchor = projection(w @ x), projection(w @ y)
    m = -erase * g @ (np.eye(len(w)) - g_anchor) + preserve * (w @ r) @ (w @ r).T
    m = m + general * w @ language @ w.T + identity * w @ w.T
    u, _, vt = np.linalg.svd(m)
    signs = np.ones(len(w))
    signs[-1] = np.sign(np.linalg.det(u @ vt))
    result: Matrix = u @ np.diag(signs) @ vt @ w
    return result


def speed(
    w: Matrix, x: Matrix, y: Matrix, r: Matrix, k: Matrix, threshold: float, noise: list[Matrix]
) -> Matrix:
    """SPEED as its code has it; ``noise`` is what its augmentation draws, a matrix a chunk."""
    eye, n = np.eye(len(x)), x.shape[1]
    target, anchor = x @ x.T / n, y @ x.T / n
    plain = w @ (anchor - target) @ np.linalg.inv(eye + target)

    def filtered(features: Matrix) -> Matrix:
        norms = np.linalg.norm(plain @ features, axis=0)
        return features[:, norms > norms.mean()]

    least = np.linalg.svd(w)[2][min(w.shape) - 1]
    kept, moment, count = filtered(r), np.zeros_like(eye), 0
    for i, drawn in zip(range(0, kept.shape[1], 128), noise, strict=True):
        chunk = kept[:, i : i + 128]
        many = np.tile(chunk, 10) + np.outer(least, least) @ drawn
        both = np.concatenate([chunk, filtered(many)], axis=1)
        moment, count = moment + both @ both.T, count + both.shape[1]
    u, s, _ = np.linalg.svd(moment / count)
    p = u[:, s < threshold] @ u[:, s < threshold].T
    m = np.linalg.inv(target @ p + eye)
    held = m @ k @ np.linalg.inv(k.T @ p @ m @ k) @ k.T @ p
    updated: Matrix = w + w @ (anchor - target) @ p @ (eye - held) @ m
    return updated


def difference_projector(w: Matrix, x: Matrix, y: Matrix, c: Matrix) -> Matrix:
    """W(I − C^½ U Uᵀ C^−½), U the left singular vectors of C^−½(X − Y)."""
    values, vectors = np.linalg.eigh(c)
    root, inverse = (vectors @ np.diag(values**power) @ vectors.T for power in (0.5, -0.5))
    result: Matrix = w @ (np.eye(len(c)) - root @ projection(inverse @ (x - y)) @ inverse)
    return result


def kv_names() -> list[str]:
    inputs, outputs = UNET_BLOCKS
    places = [f"input_blocks.{i}.1" for i in inputs] + ["middle_block.1"]
    places += [f"output_blocks.{i}.1" for i in outputs]
    return [
        f"model.diffusion_model.{place}.transformer_blocks.0.attn2.to_{part}.weight"
        for place in places
        for part in "kv"
    ]


def erase(state: State, target: Places, anchor: Places, method: str, first_layer: int = 1) -> State:
    """Every edited matrix, in the checkpoint's dtype."""
    original = text_model(state)
    current = copy.deepcopy(original)
    solve = eq2 if method == "uce" else eq5
    edited: dict[str, torch.Tensor] = {}
    for layer in () if method == "uce" else range(first_layer, 13):
        x, y = stack(current, target, layer), stack(original, anchor, layer)
        for part, module in projections(current, layer).items():
            name = f"{TEXT}encoder.layers.{layer - 1}.self_attn.{part}_proj.weight"
            w = solve(state[name].double().numpy(), x, y)
            edited[name] = torch.from_numpy(w).to(state[name].dtype)
            if method == "erasepro":
                module.weight.data = edited[name].double()
    x, y = stack(current, target, None), stack(original, anchor, None)
    for name in kv_names():
        w = solve(state[name].double().numpy(), x, y)
        edited[name] = torch.from_numpy(w).to(state[name].dtype)
    return edited
