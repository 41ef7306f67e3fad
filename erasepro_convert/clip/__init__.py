"""CLIP's text side, ours to run a layer at a time."""
