"""What belongs together: the same patient, work or scene, or the same picture."""

from __future__ import annotations

import hashlib
import io
import json
import pickle

from PIL import Image

from pgtune.errors import DataError
from pgtune.example import Example, ImageSource, shown
from pgtune.names import nearest

__all__ = ["IMAGE", "digest", "group_of", "picture_identities", "picture_identity"]

IMAGE = "image"
"""The group key that every example has: derived from its pictures where the data adapter gives none."""


def group_of(example: Example, key: str) -> str:
    """The group that an example belongs to: ``example.groups[key]``, else its metadata's ``key``, else its pictures.

    The last holds for the key "image" alone: the same picture is the same group (`picture_identity`); for an example
    with several pictures, the same list of them. Text and numbers of the metadata make groups, 3 and "3" the same one.

    Raises DataError, without the row: it has no such key, or nothing under it.
    """
    if key in example.groups:
        value: object = example.groups[key]
    elif key in example.metadata:
        value = example.metadata[key]
    elif key == IMAGE:
        return " ".join(picture_identities(example))
    else:
        has = [*example.groups, *(name for name in example.metadata if name not in example.groups)]
        close = nearest(key, [*has, IMAGE])
        known = ", ".join([*has, *([] if IMAGE in has else [IMAGE])])
        hint = f"; did you mean {close!r}?" if close else ""
        raise DataError(f"has no group {key!r}{hint} (it has {known})")
    if isinstance(value, bool) or not isinstance(value, str | int | float) or value == "":
        raise DataError(f"the group {key!r} must be a text that is not empty or a number, got {shown(value)}")
    return value if isinstance(value, str) else json.dumps(value)


def picture_identities(example: Example) -> list[str]:
    """What each picture of an example is known by."""
    return [picture_identity(image) for image in example.images]


def picture_identity(image: ImageSource) -> str:
    """What a picture is known by: its path, or a hash over the pixels, or over all that a callable holds."""
    if isinstance(image, str):
        return image
    if isinstance(image, Image.Image):
        return hashlib.sha256(f"{image.mode} {image.size} ".encode() + image.tobytes()).hexdigest()
    return hashlib.sha256(by_value(image)).hexdigest()


def digest(text: str, salt: str = "") -> int:
    """64 bits that stand for a text, the same in every process; another salt gives others."""
    content = text.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(content, digest_size=8, key=salt.encode()).digest())


def by_value(value: object) -> bytes:
    """A pickle that is the same for equal values, whether or not they share objects."""
    file = io.BytesIO()
    pickler = pickle.Pickler(file, protocol=5)
    pickler.fast = True  # no memory of objects seen: what is shared is written out again
    pickler.dump(value)
    return file.getvalue()
