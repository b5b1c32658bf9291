"""Files of a series in the order of their slices, and which of them are taken."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pgtune.data_adapters.radiology.dicom_headers import Header
from pgtune.data_adapters.radiology.files import did_you_mean
from pgtune.errors import AdapterError, DataError

__all__ = ["Choice", "in_order", "series_of"]


@dataclass(frozen=True)
class Choice:
    """Which pictures of a series are taken.

    ``frame``: of a file with several: ``middle``, ``first``, ``all``, or a number from 0. ``every_nth``: each nth of
    the series' pictures, from the first. ``slices``: of these ``all``, the ``middle`` one, or so many, evenly spaced
    from end to end (all, where there are fewer).
    """

    frame: str | int = "middle"
    every_nth: int = 1
    slices: str | int = "all"

    def __post_init__(self) -> None:
        _check("frame", self.frame, ("middle", "first", "all"), 0)
        _check("slices", self.slices, ("all", "middle"), 1)
        _check("every_nth", self.every_nth, (), 1)

    def __call__(self, files: Sequence[Header]) -> list[tuple[Header, int]]:
        """Files of one series, in order, to the pictures taken: file and frame. Raises DataError: no such frame."""
        pictures = [(file, frame) for file in files for frame in self._frames(file)][:: self.every_nth]
        if self.slices == "all":
            return pictures
        if self.slices == "middle":
            return [pictures[len(pictures) // 2]]
        wanted = min(int(self.slices), len(pictures))
        if wanted == 1:
            return [pictures[len(pictures) // 2]]
        return [pictures[round(place * (len(pictures) - 1) / (wanted - 1))] for place in range(wanted)]

    def _frames(self, file: Header) -> Iterable[int]:
        if self.frame == "all":
            return range(file.frames)
        if self.frame in ("middle", "first") or file.frames == 1:
            return [file.frames // 2 if self.frame == "middle" else 0]
        if int(self.frame) >= file.frames:
            raise DataError(f"frame = {self.frame}: there are {file.frames}, counted from 0")
        return [int(self.frame)]


def series_of(files: Iterable[Header]) -> list[list[Header]]:
    """Files by series, the series in the order in which they are met, each series from slice to slice."""
    found: dict[str, list[Header]] = {}
    for file in files:
        found.setdefault(file.series, []).append(file)
    return [in_order(series) for series in found.values()]


def in_order(files: Sequence[Header]) -> list[Header]:
    """Files of a series by where their slices lie along the normal of their plane.

    Where that is not known of all, or their planes are not parallel, by InstanceNumber; where not even that, by path.
    """
    places = _along_normal(files)
    instances = [file.instance for file in files]
    known = [0.0 if number is None else number for number in instances]
    if places is None:
        places = [0.0] * len(files)
    if None in instances:
        known = [0.0] * len(files)
    keyed = sorted(zip(places, known, (file.path for file in files), range(len(files)), strict=True))
    return [files[index] for *_, index in keyed]


def _along_normal(files: Sequence[Header]) -> list[float] | None:
    """ImagePositionPatient projected on the normal of ImageOrientationPatient, in mm, the file's axes being unit."""
    normal: tuple[float, ...] | None = None
    places = []
    for file in files:
        if file.position is None:
            return None
        (x, y, z), (a, b, c, d, e, f) = file.position[:3], file.position[3:]
        own = (b * f - c * e, c * d - a * f, a * e - b * d)
        normal = own if normal is None else normal
        if sum(one * other for one, other in zip(normal, own, strict=True)) < 0.99:
            return None
        places.append(round(x * normal[0] + y * normal[1] + z * normal[2], 3))
    return places


def _check(name: str, value: Any, words: tuple[str, ...], least: int) -> None:
    if value in words or (type(value) is int and value >= least):
        return
    hint = did_you_mean(value, words) if isinstance(value, str) else ""
    raise AdapterError(f"{name} = {value!r}: expected {', '.join([*words, ''])}a whole number from {least}{hint}")
