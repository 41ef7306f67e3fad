"""The words of a recipe as a release may show them: none where it was made with --private."""

from erasepro_convert.manifest import Manifest


class Words:
    """Gives the names of concepts and prompts that documents of a release may show."""

    def __init__(self, manifest: Manifest) -> None:
        """Number the targets, in the order of the recipe."""
        targets = dict.fromkeys(concept.target for concept in manifest.recipe.concepts)
        self.are_private = manifest.is_private
        self._numbers = {target: number for number, target in enumerate(targets, 1)}

    def concept(self, target: str) -> str:
        """Return a target, or the number that stands for it."""
        return f"concept {self._numbers.get(target, '?')}" if self.are_private else target

    def prompt(self, prompt: str) -> str:
        """Return a prompt in quotation marks; empty where it is private."""
        return "" if self.are_private else f"“{prompt}”"
