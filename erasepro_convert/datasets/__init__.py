"""Prompts that others published, read from the user's files in the forms they were published in."""
