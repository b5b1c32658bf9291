"""What an example shows the model in an epoch: which of its references is learnt, and how its picture is changed.

A pure function of (seed, example, epoch), so that a resumed run goes on to the last bit.
"""

from __future__ import annotations

import dataclasses

from pgtune.augment import augmented, check_movable, names_a_place
from pgtune.data import check_text
from pgtune.errors import DataError
from pgtune.example import Example
from pgtune.recipe import Recipe
from pgtune.schedule import reference_index

__all__ = ["Visits"]


class Visits:
    """The settings ``data.cycle_references`` and ``augment`` of a recipe, applied to its training examples."""

    def __init__(self, recipe: Recipe) -> None:
        self.seed = recipe.seed
        self.cycle = recipe.data.cycle_references
        self.augment = recipe.augment
        self.several = 0
        """How many of the examples seen by `learnt` have several references."""
        self.in_place = 0
        """How many of them name a side or place, so that their picture is not moved."""

    def learnt(self, example: Example) -> list[Example]:
        """The example with each of the texts that it may show; counts what `notes` says.

        Raises:
            DataError: without the row: a reference that cannot be learnt, or tokens that cannot be moved along.
        """
        shown = [example]
        if self.cycle:
            texts = list(dict.fromkeys(example.references))
            self.several += len(texts) > 1
            shown = [_with_suffix(example, text) for text in texts]
        if self.augment.geometric:
            for one in shown:
                check_movable(one, self.augment)
            self.in_place += any(map(names_a_place, shown))
        return shown

    def notes(self) -> list[str]:
        """What should be known about the examples that were looked at."""
        found = []
        if self.cycle and not self.several:
            found.append("warning: no example has several references; data.cycle_references changes nothing")
        if self.in_place:
            found.append(f"augment    {self.in_place} examples name a side or place: changed in colour only")
        return found

    def shown(self, example: Example, index: int, epoch: int) -> Example | DataError:
        """The example as it is seen in that epoch; a picture that cannot be opened as a value, without the row."""
        if self.cycle:
            chosen = reference_index(self.seed, index, epoch, len(example.references))
            example = _with_suffix(example, example.references[chosen])
        if not self.augment.active:
            return example
        try:
            return augmented(example, self.augment, seed=self.seed, index=index, epoch=epoch)
        except DataError as error:
            return error


def _with_suffix(example: Example, suffix: str) -> Example:
    """The same example with another suffix to learn, checked as the first one was."""
    if suffix == example.suffix:
        return example
    if not suffix:
        raise DataError("one of the references is empty, and data.cycle_references would have it learnt")
    check_text("references", suffix)
    return dataclasses.replace(example, suffix=suffix)
