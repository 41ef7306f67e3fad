"""CLIP's tokenizer and text encoder, which can be run one layer at a time."""
