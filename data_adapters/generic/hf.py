"""Data sets that the library ``datasets`` reads: parquet, WebDataset, a saved folder, the Hub."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from pgtune.data_adapters.extras import require
from pgtune.data_adapters.generic.columns import Columns
from pgtune.data_adapters.layout import chosen, split_named
from pgtune.errors import AdapterError, DataError, HubError
from pgtune.example import Row
from pgtune.images import FORMATS, open_image

__all__ = ["HUB", "HfAdapter", "HfPicture"]

HUB = "hub:"
"""What a source begins with that is an id on the Hugging Face Hub: nothing else ever reaches the network."""

_FORMATS = {".parquet": "parquet", ".arrow": "arrow", ".tar": "webdataset"}
_BATCH = 1000


@dataclass(frozen=True)
class HfPicture:
    """A picture in a cell of memory-mapped Arrow files, decoded when it is asked for.

    ``files`` one after the other hold the rows of a split; ``row`` counts over all of them from 0. ``place`` is the
    position where the cell holds a list of pictures. ``folder``: where a path in the cell starts.
    """

    files: tuple[str, ...]
    column: str
    row: int
    place: int | None = None
    folder: str = ""

    def __call__(self) -> Image.Image:
        cell = _tables(self.files).column(self.column)[self.row].as_py()
        value = cell if self.place is None else cell[self.place]
        content = value if isinstance(value, bytes) else value["bytes"]
        if content is None:
            return open_image(Path(self.folder, value["path"]))
        try:
            return Image.open(io.BytesIO(content), formats=FORMATS)
        except UnidentifiedImageError:
            raise DataError(f"the column {self.column!r} holds {len(content)} bytes that are no picture") from None


@lru_cache(maxsize=8)
def _tables(files: tuple[str, ...]) -> Any:
    """The Arrow table of a split's files, memory-mapped: nothing is read before it is asked for."""
    arrow = require("pyarrow", "hf")
    require("pyarrow.ipc", "hf")
    return arrow.concat_tables([arrow.ipc.open_stream(arrow.memory_map(file)).read_all() for file in files])


@dataclass(frozen=True, kw_only=True)
class HfAdapter(Columns):  # type: ignore[misc]  # mypy sees siblings as Any
    """A data set of the library ``datasets``, one example a row.

    The source is a folder written by ``save_to_disk``, a ``.parquet``, ``.arrow`` or WebDataset ``.tar`` file, a folder
    of such files (splits by their names, as ``datasets`` finds them), or ``hub:owner/name`` for one on the Hugging Face
    Hub, which is downloaded to its cache once. Rows stay in memory-mapped files, and a picture is decoded when it is
    needed. A picture's column may hold an image, its bytes, a path below the folder, or a list of these. Text is passed
    on unchanged, whole numbers in digits, class numbers as their names; a list in the suffix column is all accepted
    answers, the first being learnt. ``image``, ``prefix``, ``suffix``, ``image_template``, ``prefix_template``,
    ``suffix_template``, ``references``, ``separator``, ``part``, ``question_type``, ``groups`` and ``metadata`` name
    columns (see `Columns`). ``config``: the data set's configuration. ``revision``: of a data set on the Hub.
    ``cache``: the folder for converted files; null: the library's own.
    """

    config: str | None = None
    revision: str | None = None
    cache: str | None = None

    def splits(self, source: Path) -> list[str]:
        """The names of the splits, as recipes call them."""
        return list(self._splits(source))

    def rows(self, source: Path, split: str | None) -> Iterator[Row]:
        """Each row as a mapping, pictures as `HfPicture`. Raises DataError and HubError."""
        have = self._splits(source)
        for name, data in chosen(source, have, split):
            yield from self._rows_of(data, source, name)

    def _rows_of(self, data: Any, source: Path, split: str) -> Iterator[Row]:
        columns = self.needed()
        self.check(data.column_names, f"{source} ({split})")
        pictures = {column for column in columns if _is_picture(data.features[column])}
        for column in sorted(pictures & set(self.texts_needed())):
            raise DataError(f"{source} ({split}): the column {column!r} holds pictures, expected text")
        names = {column: data.features[column].names for column in columns if hasattr(data.features[column], "names")}
        files = tuple(str(Path(file["filename"]).absolute()) for file in data.cache_files)
        if pictures and (not files or data._indices is not None):
            raise DataError(f"{source} ({split}): its rows are not in files; write it with save_to_disk again")
        folder = str(source.absolute()) if source.is_dir() else str(source.absolute().parent)
        # as Arrow, the pictures' bytes left out: neither decoded nor copied
        table = data.with_format("arrow").select_columns([column for column in columns if column not in pictures])
        lengths = {column: data.data.column(column) for column in pictures if _is_list(data.features[column])}
        for start in range(0, len(data), _BATCH):
            batch = table[start : min(start + _BATCH, len(data))].to_pylist() if table.column_names else []
            for offset in range(min(_BATCH, len(data) - start)):
                number = start + offset
                row: dict[str, Any] = dict(batch[offset]) if batch else {}
                for column, known in names.items():
                    row[column] = known[row[column]] if row[column] is not None and row[column] >= 0 else None
                for column in pictures:
                    if column in lengths:
                        count = len(lengths[column][number]) if lengths[column][number].is_valid else 0
                        row[column] = [HfPicture(files, column, number, place, folder) for place in range(count)]
                    else:
                        valid = data.data.column(column)[number].is_valid
                        row[column] = HfPicture(files, column, number, None, folder) if valid else None
                yield Row(row, f"{source} ({split}), row {number + 1}")

    def _splits(self, source: Path) -> dict[str, Any]:
        """The data sets by split, as recipes call the splits; {"all": it} for one without."""
        loaded = _loaded(self._what(source), str(source), self.config, self.revision, self.cache)
        if not isinstance(loaded, dict):
            return {"all": loaded}
        found: dict[str, Any] = {}
        for name, data in loaded.items():
            found[split_named(name) or name] = data
        return found

    def _what(self, source: Path) -> str:
        """How a source is read: saved, hub, folder, or one of the file formats."""
        if str(source).startswith(HUB):
            return "hub"
        if self.revision is not None:
            raise AdapterError(f"revision = {self.revision!r}: only a data set on the Hub has one (source: hub:NAME)")
        if not source.exists():
            raise DataError(f"{source}: no such file or folder; a data set on the Hub is written hub:owner/name")
        if source.is_file():
            if source.suffix.lower() not in _FORMATS:
                raise DataError(f"{source}: expected a file that ends in {', '.join(_FORMATS)}")
            return _FORMATS[source.suffix.lower()]
        if (source / "dataset_dict.json").exists() or (source / "state.json").exists():
            return "saved"
        return "folder"


def _loaded(what: str, source: str, config: str | None, revision: str | None, cache: str | None) -> Any:
    """What ``datasets`` makes of it: one data set, or a mapping from split to data set."""
    datasets = require("datasets", "hf")
    exceptions = require("datasets.exceptions", "hf")
    try:
        if what == "saved":
            return datasets.load_from_disk(source)
        if what in _FORMATS.values():
            return datasets.load_dataset(what, data_files=source, split="train", cache_dir=cache)
        name = source.removeprefix(HUB)
        loaded = datasets.load_dataset(name, name=config, revision=revision, cache_dir=cache)
        # a folder of files without splits in their names is all train to the library
        return {"all": loaded["train"]} if what == "folder" and not _names_splits(Path(source)) else loaded
    except exceptions.DatasetNotFoundError as error:
        if what == "hub":
            raise HubError(f"{source}: not found on the Hub, or it needs a licence or a login: {error}") from error
        raise DataError(f"{source}: {error}") from error
    except ConnectionError as error:
        raise HubError(
            f"{source}: the Hub cannot be reached ({error}); where there is a network, load it with datasets and write "
            "it with save_to_disk, then name that folder"
        ) from error
    except (exceptions.DatasetsError, FileNotFoundError, ValueError, OSError) as error:
        raise DataError(f"{source}: datasets cannot read it: {type(error).__name__}: {error}") from error


def _names_splits(folder: Path) -> bool:
    """Whether any file or folder below is called after a split."""
    stems = (part for path in folder.rglob("*") for part in path.relative_to(folder).with_suffix("").parts)
    return any(split_named(word) for stem in stems for word in stem.replace("_", "-").replace(".", "-").split("-"))


def _is_picture(feature: Any) -> bool:
    inner = feature.feature if _is_list(feature) else feature
    if isinstance(inner, dict):  # the form of an image in parquet, written without the library
        return set(inner) == {"bytes", "path"}
    return type(inner).__name__ == "Image" or getattr(inner, "dtype", "") in ("binary", "large_binary")


def _is_list(feature: Any) -> bool:
    return type(feature).__name__ in ("List", "LargeList", "Sequence")
