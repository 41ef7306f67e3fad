"""The fields on the way from a checkpoint to a release, in the order of their use."""

from collections.abc import Iterable
from typing import Any

import gradio as gr

from erasepro_convert.ui import markup
from erasepro_convert.ui.updates import Updates

STRENGTHS = (0.25, 8.0)
NOT_WRITTEN = markup.note("Once the checkpoint is written, its documents are here.")


class EraseFields:
    """What the tab shows; ``request`` are the fields of a request, in its order.

    ``outputs`` is everything that changes.  ``advice`` is what was made of the request last, and
    ``added`` are the words that came onto the list last; nobody sees either.
    """

    def __init__(self) -> None:
        """Lay out the fields, inside of ``gr.Blocks``."""
        self.start_over = gr.Button("Start over", size="sm", elem_id="start-over")
        gr.HTML("<h2>1. Choose a checkpoint</h2>")
        self.checkpoint = gr.Dropdown(
            [], value=None, label="Checkpoint", allow_custom_value=True, elem_id="checkpoint",
            info="A Stable Diffusion 1.x file or diffusers folder: choose one, or type its path.",
        )  # fmt: skip
        self.checkpoint_error = gr.HTML()
        self.facts = gr.HTML(elem_id="facts")

        gr.HTML("<h2>2. Choose what goes</h2>")
        self.recipes = gr.Dropdown(
            [], multiselect=True, label="Recipes", elem_id="recipes",
            info="Several at once are erased together.",
        )  # fmt: skip
        with gr.Row():
            self.target = gr.Textbox(
                label="Words to erase", elem_id="target", max_lines=1,
                info="A name, a style, a thing: Van Gogh",
            )  # fmt: skip
            self.anchor = gr.Textbox(
                label="What they become", elem_id="anchor", max_lines=1,
                info="Something near that may stay: artist. Empty is nothing.",
            )  # fmt: skip
        self.find = gr.Button("Find words that mean the same", elem_id="find")
        self.words_note = gr.HTML()
        self.synonyms = gr.CheckboxGroup(
            [], label="Mean the same to this checkpoint", visible=False, elem_id="synonyms",
            info="Tick those that are to go as well; words that merely go with it are in the list.",
        )  # fmt: skip
        self.add = gr.Button("Add to the list", elem_id="add")
        self.pairs = gr.CheckboxGroup(
            [], label="Words on the list", visible=False, elem_id="pairs",
            info="Take a tick away to leave words out.",
        )  # fmt: skip
        self.what_error = gr.HTML()

        gr.HTML("<h2>3. Try</h2>")
        self.strength = gr.Slider(
            *STRENGTHS, value=1, step=0.25, label="Strength", elem_id="strength",
            info="Higher erases harder and changes more of the rest; 1 suits most.",
        )  # fmt: skip
        self.try_button = gr.Button("Try it (writes nothing)", variant="primary", elem_id="try")
        self.tried = gr.HTML(elem_id="tried")

        gr.HTML("<h2>4. Look</h2>")
        self.draw_note = gr.HTML(elem_id="draw-note")
        self.draw_button = gr.Button("Draw before and after", elem_id="draw")
        self.draw_all = gr.Button("Draw them all", visible=False, elem_id="draw-all")
        self.drawn = gr.HTML(elem_id="drawn")

        gr.HTML("<h2>5. Write</h2>")
        self.output = gr.Textbox(
            label="Output", elem_id="output", max_lines=1,
            info="The whole erased checkpoint: a path that ends in .safetensors",
        )  # fmt: skip
        self.replace = gr.Checkbox(label="Replace it if it exists", elem_id="replace")
        self.output_error = gr.HTML()
        with gr.Accordion("Who releases it (optional)", open=False):
            gr.HTML(markup.note("It stands in the manifest and in the documents."))
            with gr.Row():
                self.author = gr.Textbox(label="Author", max_lines=1)
                self.license = gr.Textbox(
                    label="Licence", max_lines=1, info="Such as creativeml-openrail-m"
                )
            with gr.Row():
                self.contact = gr.Textbox(label="Contact", max_lines=1)
                self.purpose = gr.Textbox(label="Why it was erased", max_lines=1)
        with gr.Accordion("A picture and a LoRA (optional)", open=False), gr.Row():
            self.thumbnail = gr.Textbox(
                label="Thumbnail", max_lines=1,
                info="A picture that web UIs show for the file: the path of a PNG, JPEG or WebP.",
            )  # fmt: skip
            self.lora = gr.Textbox(
                label="LoRA", max_lines=1,
                info="Where the same changes go as a LoRA too: a path that ends in .safetensors",
            )  # fmt: skip
        self.write_button = gr.Button("Write the checkpoint", variant="primary", elem_id="write")

        gr.HTML("<h2>6. Release</h2>")
        self.release = gr.HTML(
            NOT_WRITTEN,
            elem_id="release",
        )
        self.yaml = gr.Textbox(
            label="The recipe, to keep", lines=8, max_lines=16, visible=False, elem_id="yaml",
            info="Save it as a .yaml file: the same recipe on the same file gives the same bytes.",
        )  # fmt: skip
        # Gradio's own button to copy would take the name of the field that it stands in.
        self.copy = gr.Button("Copy the recipe", visible=False, elem_id="copy")
        self.advice = gr.JSON(visible=False)
        self.added = gr.Textbox(visible=False)
        self.request = [
            self.checkpoint, self.recipes, self.pairs, self.strength, self.output, self.replace,
            self.author, self.license, self.contact, self.purpose,
            self.thumbnail, self.lora,
        ]  # fmt: skip
        self.outputs = [
            *self.request, self.checkpoint_error, self.facts, self.what_error, self.target,
            self.anchor, self.synonyms, self.words_note, self.tried, self.drawn,
            self.draw_note, self.draw_all, self.output_error, self.release, self.yaml, self.copy,
            self.advice,
        ]  # fmt: skip

    def cleared(self) -> list[Updates]:
        """Return every output as it was in the beginning, in their order."""
        hidden = {"choices": [], "value": [], "visible": "hidden"}
        unlike: dict[Any, Updates] = {
            self.checkpoint: {"value": None},
            self.words_note: {"value": markup.note("Every field is empty again.")},
            self.recipes: {"value": []},
            self.strength: {"value": 1},
            self.replace: {"value": False},
            self.synonyms: hidden,
            self.pairs: hidden,
            self.release: {"value": NOT_WRITTEN},
            self.yaml: {"value": "", "visible": False},
            self.draw_all: {"visible": False},
            self.copy: {"visible": False},
            self.advice: {"value": None},
        }
        return [gr.update(**unlike.get(component, {"value": ""})) for component in self.outputs]

    def filled(self, values: Iterable[Any]) -> Updates:
        """Return the fields of a request with these values."""
        updates: Updates = {
            component: gr.update(value=list(value) if isinstance(value, tuple) else value)
            for component, value in zip(self.request, values, strict=True)
        }
        pairs = updates[self.pairs]["value"]
        return updates | {
            self.pairs: gr.update(choices=pairs, value=pairs, visible=bool(pairs)),
            self.advice: gr.update(value={"recipes": updates[self.recipes]["value"]}),
        }
