"""Erase concepts from Stable Diffusion 1.x checkpoints, and record the proof."""

__version__ = "0.1.0"
