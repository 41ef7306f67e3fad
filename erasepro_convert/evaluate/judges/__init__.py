"""Judges: each looks at the pictures of both models and says what it sees, in figures."""
