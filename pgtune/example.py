"""What a data adapter makes: the Example; and finding a data adapter by its name.

A data adapter is a callable ``row -> Example | Skip | None``; `Skip` says why a row is passed over, None does not. A
recipe names a *factory*: a class or
function whose keyword arguments are ``data.adapter_args``, and whose result is the data adapter. The name is one of

- a built-in name (``pgtune adapters`` lists them),
- an entry point of the group ``pgtune.data_adapters`` in an installed package,
- ``module:attribute``, looked up with the working directory appended to the module path.

A data adapter is called with each row of a JSON Lines file. One for data that is laid out otherwise has a method
``rows(source: Path, split: str | None)`` that yields its rows (None: of all splits), and may have ``splits(source)``,
the list of the splits that a source holds. What it yields may be a `Row`, which says where the row stands.

For prediction on material without labels a data adapter may have ``inputs(source: Path, prefix: str | None)``, which
yields Examples whose suffix may be empty, and ``exports``, a mapping from a file's ending (``.geojson``) to a function
``(rows, path) -> summary`` that writes predicted rows in the form that other tools read.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any, TypeAlias

from PIL import Image

from pgtune.errors import AdapterError, DataError, PgtuneError
from pgtune.names import ADAPTERS, nearest, unknown_name

__all__ = [
    "ENTRY_POINTS",
    "DataAdapter",
    "Example",
    "ImageSource",
    "Row",
    "Skip",
    "adapter_names",
    "load_adapter",
    "shown",
]

ENTRY_POINTS = "pgtune.data_adapters"

ImageSource: TypeAlias = "str | os.PathLike[str] | Image.Image | Callable[[], Image.Image]"
"""A file's path, a PIL image, or a callable without arguments that makes the image when it is asked for.

A callable must be picklable (a function of a module, a ``functools.partial`` of one, an instance of a class) for the
worker processes that prepare batches."""


@dataclass(frozen=True, init=False)
class Example:
    """One thing to learn: pictures, what is asked, what is to be answered. No tokens, nothing resized.

    ``images``: one image source or a sequence of them; kept as a tuple, paths as ``str``. At least one.
    ``prefix``: the prompt, may be empty. ``suffix``: what is learnt.
    ``references``: all accepted answers; left empty it is ``(suffix,)``.
    ``metadata``: JSON values that are carried into predictions and scores.
    ``part``: the part of its split that the example belongs to (ChartQA's human and augmented); "": none.
    ``question_type``: the kind of question (RSVQA's presence, count); "": none. Metrics are given by part and type.
    ``groups``: what the example shares with others, such as ``{"patient": ..., "scene": ...}``: a split may be made by
    it, and confidence intervals take it into account. Never written anywhere: a number stands for each value.

    Raises DataError where a field has the wrong type.
    """

    images: tuple[ImageSource, ...]
    prefix: str
    suffix: str
    references: tuple[str, ...]
    metadata: Mapping[str, Any] = field(hash=False)
    part: str
    question_type: str
    groups: Mapping[str, str] = field(hash=False)

    def __init__(
        self,
        images: ImageSource | Sequence[ImageSource],
        prefix: str,
        suffix: str,
        references: Sequence[str] = (),
        metadata: Mapping[str, Any] | None = None,
        part: str = "",
        question_type: str = "",
        groups: Mapping[str, str] | None = None,
    ) -> None:
        several = images if isinstance(images, list | tuple) else (images,)
        if not several:
            raise DataError("images is empty: an example needs at least one image")
        texts = (("prefix", prefix), ("suffix", suffix), ("part", part), ("question_type", question_type))
        for name, text in texts:
            _check_type(name, text, str, "text (str)")
        # A single str is a sequence of str too, and would silently become its letters.
        _check_type("references", references, (list, tuple), "a list of texts (str)")
        for reference in references:
            _check_type("references", reference, str, "a list of texts (str)")
        _check_type("metadata", metadata, (Mapping, type(None)), "a mapping")
        for key in metadata or {}:
            _check_type("metadata", key, str, "a mapping whose keys are text (str)")
        _check_type("groups", groups, (Mapping, type(None)), "a mapping")
        for key, value in (groups or {}).items():
            _check_type("groups", key, str, "a mapping from text (str) to text (str)")
            _check_type(f"groups.{key}", value, str, "text (str)")
        # Frozen: set past the dataclass's own __setattr__, here only.
        object.__setattr__(self, "images", tuple(_image_source(image) for image in several))
        object.__setattr__(self, "prefix", prefix)
        object.__setattr__(self, "suffix", suffix)
        object.__setattr__(self, "references", tuple(references) or (suffix,))
        object.__setattr__(self, "metadata", dict(metadata or {}))
        object.__setattr__(self, "part", part)
        object.__setattr__(self, "question_type", question_type)
        object.__setattr__(self, "groups", dict(groups or {}))


@dataclass(frozen=True)
class Skip:
    """A row that is rightly passed over, and why: "inactive stub". The reasons are counted and reported."""

    reason: str


@dataclass(frozen=True)
class Row:
    """A row of a data adapter's own ``rows`` that says where it stands: ``questions.json, question 17``.

    ``value`` is what the data adapter is called with; a `Skip` or a DataError stands for a row that gave none.
    """

    value: Any
    place: str


DataAdapter: TypeAlias = Callable[[Any], Example | Skip | None]
"""``row -> Example | Skip | None``; Skip and None pass the row over."""


def adapter_names() -> list[str]:
    """The names a recipe may use for a data adapter: the built-in ones and those of installed packages, sorted."""
    return sorted({*ADAPTERS, *metadata.entry_points(group=ENTRY_POINTS).names})


def load_adapter(name: str, adapter_args: Mapping[str, Any] | None = None, key: str = "data.adapter") -> DataAdapter:
    """The data adapter that ``name`` stands for, built with ``adapter_args``.

    A built-in name goes before an entry point of the same name. ``key`` is what the messages call the place where the
    name was written; its arguments are called ``<key>_args``. Raises AdapterError: nothing of that name, a module that
    cannot be imported, arguments that do not fit the factory's signature (all of them at once), a factory that fails.
    """
    factory = _find_factory(name, key)
    arguments = dict(adapter_args or {})
    _check_arguments(factory, arguments, name, key)
    try:
        adapter = factory(**arguments)
    except PgtuneError as error:
        raise AdapterError(f"{key}_args: {error}") from error
    except (Exception, SystemExit) as error:  # someone else's code: whatever it raises is reported by name
        raise AdapterError(f"{key}_args: {name} raised {type(error).__name__}: {error}") from error
    if isinstance(adapter, type) or not callable(adapter):
        raise AdapterError(f"{key}: {name} must give a callable row -> Example | Skip | None, got {shown(adapter)}")
    built: DataAdapter = adapter
    return built


def _find_factory(name: str, key: str) -> Callable[..., Any]:
    if name in ADAPTERS:
        target = ADAPTERS[name]
    elif points := metadata.entry_points(group=ENTRY_POINTS, name=name):  # reads every installed package's list: slow
        target = next(iter(points)).value
    elif ":" in name:
        target = name
        if os.getcwd() not in sys.path:  # appended, so that a user's file never hides an installed module
            sys.path.append(os.getcwd())
    else:
        raise AdapterError(
            f"{key}: {unknown_name('data adapter', name, adapter_names())}; or write module:attribute for your own"
        )
    module_name, _, attribute = target.partition(":")
    module = _import(module_name, name, key)
    found: Any = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            known = [public for public in dir(found) if not public.startswith("_")]
            close = nearest(part, known)
            raise AdapterError(
                f"{key}: {name}: {getattr(found, '__name__', repr(found))} has no attribute {part!r}"
                + (f"; did you mean {close!r}?" if close else "")
            )
        found = getattr(found, part)
    if not callable(found):
        raise AdapterError(f"{key}: {name} must be a class or function that makes a data adapter, got {shown(found)}")
    factory: Callable[..., Any] = found
    return factory


def _import(module_name: str, name: str, key: str) -> Any:
    if not module_name or not all(part.isidentifier() for part in module_name.split(".")):
        raise AdapterError(f"{key}: {name!r} is not module:attribute; {module_name!r} is not a module's name")
    importlib.invalidate_caches()  # the module may have been written a moment ago, as in a notebook
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise AdapterError(f"{key}: importing {module_name} for {name}: {error}") from error
        here = [entry.name.removesuffix(".py") for entry in os.scandir() if entry.name.endswith(".py")]
        close = nearest(module_name, here)
        raise AdapterError(
            f"{key}: {name}: there is no module {error.name!r} on the module path or in {os.getcwd()}"
            + (f"; did you mean {close!r}?" if close else "")
        ) from error
    except (Exception, SystemExit) as error:  # someone else's code: whatever it raises is reported by name
        raise AdapterError(
            f"{key}: importing {module_name} for {name} raised {type(error).__name__}: {error}"
        ) from error


def _check_arguments(factory: Callable[..., Any], arguments: dict[str, Any], name: str, key: str) -> None:
    try:
        by_kind = inspect.signature(factory).parameters.values()
    except ValueError:  # some that are built in have none; calling it will tell
        return
    open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in by_kind)
    named = [p for p in by_kind if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    names = [parameter.name for parameter in named]
    problems = []
    for unknown in [] if open_ended else [argument for argument in arguments if argument not in names]:
        close = nearest(unknown, names)
        hint = f"; did you mean {close!r}?" if close else ""
        takes = f"it takes {', '.join(names)}" if names else "it takes no arguments"
        problems.append(f"{key}_args.{unknown} = {arguments[unknown]!r}: not an argument of {name}{hint}; {takes}")
    missing = [p.name for p in named if p.default is p.empty and p.name not in arguments]
    problems += [f"{key}_args.{argument}: {name} needs this argument" for argument in missing]
    if missing and not arguments and len(names) == 1 and not inspect.isclass(factory):
        problems.append(
            f"(if {name} is the data adapter itself, name a function that returns it: a recipe names a factory)"
        )
    if problems:
        raise AdapterError("\n".join(problems))


def _image_source(image: Any) -> ImageSource:
    if isinstance(image, Image.Image):
        return image
    if isinstance(image, str | os.PathLike):
        path = os.fspath(image)
        if not isinstance(path, str):
            raise DataError(f"an image's path must be text (str), got {shown(path)}")
        if not path:
            raise DataError("an image's path is empty")
        return path
    if callable(image) and not isinstance(image, type):
        made: Callable[[], Image.Image] = image
        return made
    raise DataError(f"an image must be a path, a PIL image or a callable that makes one, got {shown(image)}")


def _check_type(name: str, value: object, expected: type | tuple[type, ...], words: str) -> None:
    if not isinstance(value, expected):
        raise DataError(f"{name} must be {words}, got {shown(value)}")


def shown(value: object) -> str:
    """A value for a message: its type and the beginning of how it prints."""
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"
