"""Charts of an erasure from layer to layer, drawn from its manifest (the paper's Fig. 2 and 3)."""

from collections.abc import Callable, Sequence
from functools import partial
from io import BytesIO, StringIO

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from erasepro_convert.manifest import EditRecord, Encoder, Manifest, Trained

COLOURS = {"q": "#8172b3", "k": "#4c72b0", "v": "#dd8452", "edited": "#4c72b0", "stock": "#c44e52"}


def png(manifest: Manifest) -> bytes:
    """Draw all charts as one PNG."""
    target = BytesIO()
    _figure(manifest).savefig(target, format="png", dpi=110)
    return target.getvalue()


def svg(manifest: Manifest) -> str:
    """Draw all charts as one SVG element, which is a function of the manifest alone."""
    target = StringIO()
    with mpl.rc_context({"svg.hashsalt": "erasepro", "svg.fonttype": "none"}):
        _figure(manifest).savefig(target, format="svg", metadata={"Date": None})
    text = target.getvalue()
    return text[text.index("<svg") :]


def _figure(manifest: Manifest) -> Figure:
    panels: list[Callable[[Axes], None]] = []
    edits, trained = manifest.edits, manifest.trained
    if trained:
        panels.append(partial(_losses, trained=trained))
        panels += [partial(_parts, trained=trained)] if trained.changes else []
    if edits:
        panels += [partial(_updates, edits=edits), partial(_feature_distances, edits=edits)]
        single = [edit for edit in edits if edit.single_encoder_update]
        panels += [partial(_cross_attention_updates, edits=single)] if single else []
    figure = Figure(figsize=(7, 11 / 3 * len(panels)), layout="constrained")
    for axes, panel in zip(
        figure.subplots(len(panels), 1, squeeze=False).flat, panels, strict=True
    ):
        panel(axes)
    return figure


def _losses(axes: Axes, trained: Trained) -> None:
    axes.plot(range(1, len(trained.losses) + 1), trained.losses, c=COLOURS["k"], lw=1)
    axes.set_title("loss of each training step")
    axes.set_ylim(bottom=0)
    axes.grid(axis="y", alpha=0.3)


def _parts(axes: Axes, trained: Trained) -> None:
    """Draw the updates of trained tensors that have no residual, by part of the U-Net."""
    parts = trained.parts()
    axes.bar([part.name for part in parts], [p.relative_update for p in parts], color=COLOURS["v"])
    axes.set_title("update of other trained tensors, ‖ΔW‖ / ‖W‖")
    axes.tick_params(axis="x", rotation=90)
    axes.grid(axis="y", alpha=0.3)


def _updates(axes: Axes, edits: Sequence[EditRecord]) -> None:
    """Draw update norms from the first layer to the last (Fig. 2c, 3b)."""
    layers = list(dict.fromkeys(edit.layer for edit in edits))
    for part in "qkv":
        matrices = [
            edit for edit in edits if f".{part}_proj." in edit.name or f"to_{part}." in edit.name
        ]
        if matrices:
            places = [layers.index(edit.layer) for edit in matrices]
            values = [edit.relative_update for edit in matrices]
            axes.plot(places, values, "o-", ms=3, c=COLOURS[part], label=part)
    axes.set_title("update of each matrix, ‖ΔW‖ / ‖W‖")
    _name_layers(axes, layers)


def _feature_distances(axes: Axes, edits: Sequence[EditRecord]) -> None:
    """Draw how far target features are from anchor features where layers read them (Fig. 3a).

    All layers of the U-Net read one set of features, so that they share one place.
    """
    firsts = {_reader(edit): edit for edit in reversed(edits)}
    firsts = dict(reversed(firsts.items()))
    angles = axes.twinx()
    for encoder, label in (("edited", "with the edits before it"), ("stock", "without")):
        places = [
            e.feature_distance if encoder == "edited" else e.feature_distance_without_edits
            for e in firsts.values()
        ]
        colour = COLOURS[encoder]
        axes.plot([p.distance for p in places], "o-", ms=3, c=colour, label=label)
        angles.plot([p.angle for p in places], "s:", ms=3, c=colour, alpha=0.6)
    axes.set_title("target features from the anchor's, ‖X − Y‖ / ‖Y‖; dotted: angle")
    angles.set_ylabel("degrees")
    angles.set_ylim(bottom=0)
    _name_layers(axes, list(firsts))


def _cross_attention_updates(axes: Axes, edits: Sequence[EditRecord]) -> None:
    """Draw the update that cross-attention needs with and without earlier edits (Fig. 2d)."""
    labels: dict[Encoder, str] = {"stock": "without the edits before it", "edited": "with them"}
    for encoder, label in labels.items():
        norms = [
            edit.single_encoder_update[encoder] / (edit.norm or 1.0)
            for edit in edits
            if edit.single_encoder_update
        ]
        axes.plot(norms, "o-", ms=3, c=COLOURS[encoder], label=label)
    axes.set_title("update that each cross-attention matrix alone would need, ‖ΔW‖ / ‖W‖")
    _name_layers(axes, [edit.layer for edit in edits])


def _reader(edit: EditRecord) -> str:
    return "unet" if edit.layer.startswith("unet.") else edit.layer


def _name_layers(axes: Axes, layers: list[str]) -> None:
    names = [name.removeprefix("text_encoder.").removeprefix("unet.") for name in layers]
    axes.set_xticks(range(len(layers)), names, rotation=90)
    axes.set_ylim(bottom=0)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(frameon=False)
