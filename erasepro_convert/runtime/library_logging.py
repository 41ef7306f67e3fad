"""Keeping libraries from talking."""

import os


def hush_libraries() -> None:
    """Keep diffusers and transformers from talking about themselves; call before importing them."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from transformers.utils import logging

    logging.set_verbosity_error()
