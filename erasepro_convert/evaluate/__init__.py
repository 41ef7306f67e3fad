"""Evaluation on pictures: both models draw the same prompts, and judges compute metrics."""
