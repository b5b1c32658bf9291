"""The splits of a recipe: each opened from its source, or cut from one by group so that no group falls on two sides."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from pgtune.data import Examples, Verify, open_source
from pgtune.errors import DataError, RecipeError
from pgtune.example import load_adapter
from pgtune.groups import IMAGE, digest, group_of, picture_identities
from pgtune.recipe import Recipe
from pgtune.settings import DataSettings

__all__ = ["Splits", "groups_by_key", "open_splits", "same_split"]

CUT = ("test", "validation")
"""The order in which splits are cut; what is left is train."""


class Splits(dict[str, Examples]):
    """The splits that were opened, by name.

    ``record`` says how they were cut, as ``splits.json`` in a run folder holds it; None where each has a source.
    """

    record: dict[str, Any] | None = None

    def left_out(self) -> dict[str, Any]:
        """For ``--json``: the rows that gave no example, by the key that names their source."""
        return {name: examples.left_out.document() for name, examples in self._read().items() if examples.left_out}

    def summary(self) -> list[str]:
        """For a person: the same in a few lines."""
        return [line for examples in self._read().values() for line in examples.left_out.summary()]

    def cut_summary(self) -> str:
        """For a person: how the splits were cut; empty where they were not."""
        if self.record is None:
            return ""
        splits = self.record["splits"]
        total = sum(of["examples"] for of in splits.values())
        parts = [
            f"{name} {of['examples']} ({100 * of['examples'] / total:.3g} %, {of['groups']} groups)"
            for name, of in splits.items()
        ]
        return f"by {self.record['split_by']}, seed {self.record['seed']}: {', '.join(parts)}"

    def _read(self) -> dict[str, Examples]:
        """What was read: cut splits come from the same material, which is called train."""
        found: dict[int, tuple[str, Examples]] = {}
        for name, examples in self.items():
            key = "train" if self.record and name in self.record["splits"] else name
            found.setdefault(id(examples.left_out), (key, examples))
        return dict(found.values())


def open_splits(
    recipe: Recipe, only: Sequence[str] | None = None, *, limit: int | None = None, verify: Verify | None = None
) -> Splits:
    """Open the splits of a recipe (``only``: these of them) in the order train, validation, test.

    The same recipe on the same data gives the same rows in each, wherever it is called from. ``limit``: the first so
    many examples of each; ``verify`` goes before ``data.verify_images``.

    Raises RecipeError for a split that the recipe has not, DataError and AdapterError as `pgtune.data.open_source`, and
    DataError for a row without the group that ``data.split_by`` names, or too few groups.
    """
    data = recipe.data
    names = data.splits if only is None else tuple(name for name in data.splits if name in only)
    for name in only or ():
        if name not in data.splits:
            raise RecipeError(f"data.{name}: the recipe has none; it has {', '.join(data.splits)}")
    adapter = load_adapter(data.adapter, data.adapter_args)
    shares = _shares(data)
    opened = Splits()

    def read(name: str, limit: int | None, verify: Verify | None = verify) -> Examples:
        return open_source(
            getattr(data, name),
            adapter,
            root=data.root,
            limit=limit,
            verify=verify or data.verify_images,
            max_bad_share=data.max_bad_share,
        )

    cut: dict[str, Examples] = {}
    if data.split_by is not None and any(name in ("train", *shares) for name in names):
        # Where bad pictures are left out, which ones are decides the cut: it is to be the training's.
        material = read("train", None, None if data.max_bad_share > 0 else verify)
        cut, opened.record = _cut(material, data.split_by, shares, recipe.seed)
    for name in names:
        opened[name] = (cut[name][:limit] if limit else cut[name]) if name in cut else read(name, limit)
    return opened


def _shares(data: DataSettings) -> dict[str, float]:
    return {name: share for name in CUT if (share := getattr(data, f"{name}_share")) > 0}


def groups_by_key(examples: Examples, key: str) -> Iterator[str]:
    """The group of each example. Raises DataError, naming the row, for one that has none."""
    for index in range(len(examples)):
        where, example = examples.at(index)
        try:
            yield group_of(example, key)
        except DataError as error:
            raise DataError(f"{where}: {error}; data.split_by needs it in every row") from error


def _cut(
    examples: Examples, key: str, shares: dict[str, float], seed: int
) -> tuple[dict[str, Examples], dict[str, Any]]:
    """The examples by split, and the record of it."""
    groups = _group_digests(examples, key)
    distinct, inverse, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if len(distinct) < len(shares) + 1:
        sides = ", ".join(("train", *shares))
        raise DataError(
            f"{examples.name}: data.split_by = {key!r} finds {len(distinct)} group{'s'[: len(distinct) != 1]} in "
            f"{len(examples)} examples, too few for {sides}"
        )
    # The order is drawn from the groups' own names and the seed: the order of the rows has no part in it.
    order = np.argsort([digest(str(group), salt=str(seed)) for group in distinct.tolist()], kind="stable")
    side = np.zeros(len(distinct), dtype=np.int8)  # 0: train
    for number, share in enumerate(shares.values(), start=1):
        sides_to_come = len(shares) - number + 1  # each needs a group, train too
        side[_chosen(order[side[order] == 0], sizes, share * len(examples), sides_to_come)] = number
    cut, record = {}, {}
    for number, name in enumerate(("train", *shares)):
        places = np.flatnonzero(side[inverse] == number)
        cut[name] = examples.select(int(place) for place in places)
        rows: dict[str, list[int]] = {}
        for index in range(len(cut[name])):
            part, row = cut[name].row(index)
            rows.setdefault(part, []).append(row)
        record[name] = {"examples": len(places), "groups": int((side == number).sum()), "rows": rows}
    return cut, {"split_by": key, "seed": seed, "shares": shares, "splits": record}


def _chosen(order: np.ndarray, sizes: np.ndarray, wanted: float, keep: int) -> list[int]:
    """Groups whose examples come as near to `wanted` as taking them in this order allows; one at least.

    `keep` groups are left for the other sides.
    """
    chosen: list[int] = []
    have = 0
    for group in order.tolist():
        if len(chosen) == len(order) - keep:
            break
        if abs(have + sizes[group] - wanted) < abs(have - wanted):
            chosen.append(group)
            have += int(sizes[group])
    if not chosen:  # every group is more than twice too large
        chosen = [min(order.tolist(), key=lambda group: int(sizes[group]))]
    return chosen


def _group_digests(examples: Examples, key: str) -> np.ndarray:
    """A number for the group of each example. Examples that share one of several pictures are of the same group."""
    if key != IMAGE:
        return np.asarray(array("Q", (digest(group) for group in groups_by_key(examples, key))))
    pictures, owners = array("Q"), array("q")
    for index, example in enumerate(examples):
        given = key in example.groups or key in example.metadata
        for identity in [group_of(example, key)] if given else picture_identities(example):
            pictures.append(digest(identity))
            owners.append(index)
    distinct, inverse = np.unique(np.asarray(pictures), return_inverse=True)
    linked = _linked(len(distinct), np.asarray(owners), inverse)
    _, first = np.unique(np.asarray(owners), return_index=True)
    found: np.ndarray = distinct[linked[inverse[first]]]
    return found


def _linked(count: int, owners: np.ndarray, pictures: np.ndarray) -> np.ndarray:
    """For each picture the smallest one that it hangs together with, through examples that have several."""
    parent = array("q", range(count))

    def root(picture: int) -> int:
        while parent[picture] != picture:
            parent[picture] = parent[parent[picture]]
            picture = parent[picture]
        return picture

    for place in np.flatnonzero(owners[1:] == owners[:-1]).tolist():
        one, other = sorted((root(int(pictures[place])), root(int(pictures[place + 1]))))
        parent[other] = one
    return np.asarray([root(picture) for picture in range(count)])


def same_split(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two records cut the same rows into the same splits; what the files are called has no part in it."""

    def rows(record: dict[str, Any]) -> Any:
        return {name: list(split["rows"].values()) for name, split in record["splits"].items()}

    return bool(rows(one) == rows(other))
