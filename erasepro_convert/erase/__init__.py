"""Closed-form erasure: from original weights, aligned prompts and a recipe to a stream of edits.

Nothing is imported here: ``targets`` is for modules that do not wait for torch.
"""
