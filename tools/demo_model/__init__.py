"""The world of the demo model, and its training: see README.md."""
