"""Measures without images: leak of targets, drift of other prompts, words with like meanings."""
