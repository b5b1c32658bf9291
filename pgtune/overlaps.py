"""What stands on both sides of a split, told without opening a picture: patients, works, scenes, picture files."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from pgtune.data import Examples
from pgtune.example import Example
from pgtune.groups import digest, picture_identities

__all__ = ["Finding", "finding_of", "group_overlaps"]

_SHOWN = 5


@dataclass(frozen=True)
class Finding:
    """Something that should be known before a score is believed.

    ``kind``: pictures, groups, prompts, answers, contradictions or labels. ``splits``: the splits it concerns.
    ``count`` of ``of`` examples are affected, ``places`` are the first of them. No group's name is ever told: it may be
    a patient's.
    """

    kind: str
    splits: tuple[str, ...]
    message: str
    count: int
    of: int
    places: tuple[str, ...] = ()

    def words(self) -> str:
        """For a person: ``test: 12 of 40 (30 %) belong to 3 patients that train holds too``."""
        if not self.places:
            return f"{self.splits[-1]}: {self.message}"
        return f"{self.splits[-1]}: {self.count:,} of {self.of:,} ({100 * self.count / self.of:.0f} %) {self.message}"


def finding_of(kind: str, splits: tuple[str, ...], message: str, indices: Sequence[int], examples: Examples) -> Finding:
    """A finding about these examples."""
    places = tuple(examples.where(index) for index in indices[:_SHOWN])
    return Finding(kind, splits, message, len(indices), len(examples), places)


def group_overlaps(splits: Mapping[str, Examples], *, pictures: bool = True) -> list[Finding]:
    """Groups, such as patients, that stand on both sides of a split; ``pictures``: and pictures, by their files.

    Cheap: no picture is opened, and 64 bits are kept for each group.
    """
    members: dict[str, dict[str, set[int]]] = {name: defaultdict(set) for name in splits}
    for name, examples in splits.items():
        for example in examples:
            for key, value in _groups(example, pictures):
                members[name][key].add(value)
    found = []
    for first, second in combinations(splits, 2):
        for key in sorted(members[first].keys() & members[second].keys()):
            shared = members[first][key] & members[second][key]
            if not shared:
                continue
            examples = splits[second]
            indices = [
                index
                for index, example in enumerate(examples)
                if any(own == key and value in shared for own, value in _groups(example, pictures))
            ]
            several = "s" if len(shared) > 1 and not key.endswith("s") else ""
            message = f"belong to {len(shared):,} {key}{several} that {first} holds too"
            found.append(finding_of("groups", (first, second), message, indices, examples))
    return found


def _groups(example: Example, pictures: bool) -> list[tuple[str, int]]:
    given = [(key, digest(value)) for key, value in example.groups.items() if key != "image"]
    seen = [("picture", digest(identity)) for identity in picture_identities(example)] if pictures else []
    return [*seen, *given]
