"""Common language: words that no recipe names, and what they look like to a text encoder."""
