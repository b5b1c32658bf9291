"""Looking at pictures before a training begins: all of them where they are few, some of them where they are many.

``full`` decodes every picture, those that a callable makes too. ``header`` opens every file and reads how large it is
and what it claims to be; a callable has no header. ``none`` looks at nothing.

``auto`` counts different pictures, not rows. Files: decoded up to 2,000, their headers read up to 5,000, the headers of
5,000 drawn by lot beyond, or all of them where bad rows may be left out. Callables: called up to 500, 100 drawn by lot
beyond. The lot is always the same for the same data. A bad picture that is met only later, in the training, is named by
its row just as well.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from pgtune.errors import DataError
from pgtune.example import Example, ImageSource
from pgtune.images import check_image, open_image
from pgtune.progress import Progress

__all__ = ["Pictures"]

DECODED_FILES = 2_000
HEADERS = 5_000
CALLED = 500
CALLED_OF_MANY = 100

_AT_ONCE = 256
_WORTH_A_BAR = 2_000


class Pictures:
    """The pictures of a source while it is read: a few bytes each, nothing after `problems`."""

    def __init__(self, verify: str, *, every_header: bool = False) -> None:
        self.verify = verify
        self.every_header = every_header
        self.keys = array("Q")
        self.records = array("q")
        self.in_file = array("b")

    def add(self, record: int, pictures: Sequence[tuple[int, bool]]) -> None:
        """Count the pictures of an example: of each a number that stands for it, and whether it lies in a file."""
        if self.verify == "none":
            return
        for key, in_file in pictures:
            self.keys.append(key)
            self.records.append(record)
            self.in_file.append(in_file)

    def problem_of(self, example: Example) -> str | None:
        """What is wrong with an example's pictures, looked at one by one: the first of it."""
        in_full = self.verify in ("auto", "files", "full")
        for image in example.images:
            if isinstance(image, str):
                look = open_image if in_full else check_image if self.verify == "header" else None
            else:
                look = open_image if self.verify in ("auto", "full") else None
            if look is not None and (text := _problem(look)(image)):
                return text
        return None

    def problems(self, examples: Sequence[Example]) -> dict[int, str]:
        """What is wrong with the pictures looked at: of each example that has a bad one, the first of them."""
        keys, records, in_file = np.asarray(self.keys), np.asarray(self.records), np.asarray(self.in_file)
        _, first = np.unique(keys, return_index=True)
        files, called = first[in_file[first] == 1], first[in_file[first] == 0]
        few = self.verify in ("auto", "files")
        full = self.verify == "full" or (few and len(files) <= DECODED_FILES)
        files = _some(files, HEADERS, HEADERS) if few and not self.every_header else files
        called = _some(called, CALLED, CALLED_OF_MANY) if few else called
        if self.verify in ("files", "header"):
            called = called[:0]

        def picture(place: int) -> ImageSource:
            start = place
            while start > 0 and records[start - 1] == records[place]:
                start -= 1
            return examples[int(records[place])].images[place - start]

        bad: dict[int, str] = {}
        # Pillow decodes without holding Python's lock. Callables are someone else's code: one after the other.
        long = len(files) + 10 * len(called) >= _WORTH_A_BAR
        with (
            Progress(len(files) + len(called), "check pictures", shown=long) as progress,
            ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool,
        ):
            for start in range(0, len(files), _AT_ONCE):
                places = [int(place) for place in files[start : start + _AT_ONCE]]
                found = pool.map(_problem(open_image if full else check_image), map(picture, places))
                bad |= {int(keys[place]): text for place, text in zip(places, found, strict=True) if text}
                progress.advance(len(places))
            decode = _problem(open_image)
            for place in map(int, called):
                if text := decode(picture(place)):
                    bad[int(keys[place])] = text
                progress.advance()
        return dict(self._of_examples(bad)) if bad else {}

    def _of_examples(self, bad: dict[int, str]) -> Iterator[tuple[int, str]]:
        last = -1
        for key, record in zip(self.keys, self.records, strict=True):
            if key in bad and record != last:
                last = record
                yield record, bad[key]


def _some(places: np.ndarray, all_up_to: int, beyond: int) -> np.ndarray:
    places = np.sort(places)
    if len(places) <= all_up_to:
        return places
    return np.sort(np.random.default_rng(0).choice(places, beyond, replace=False))


def _problem(look: Callable[..., object]) -> Callable[[ImageSource], str | None]:
    def problem(image: ImageSource) -> str | None:
        try:
            look(image)
        except DataError as error:
            return str(error)
        return None

    return problem
