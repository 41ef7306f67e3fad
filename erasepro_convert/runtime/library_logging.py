"""Keep the log messages of libraries off the terminal."""

import os


def silence_libraries() -> None:
    """Silence diffusers and transformers, offline.  Call this before importing them."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from transformers.utils import logging

    logging.set_verbosity_error()
