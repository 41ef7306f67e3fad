"""Helpers that every other package may use: threads, memory, dtypes, digests, signals."""
