"""The errors a user can meet, as one tree.

    PgtuneError                exit code 2: what the user gave was wrong
    ├── RecipeError            a recipe, an override or a command line that does not make sense
    ├── AdapterError           a data adapter that cannot be found, built or called
    ├── DataError              a row, an image or a data file that is not as it should be
    ├── ModelError             a base model, tokenizer or processor that is not PaliGemma's
    ├── HubError               an id that cannot be reached, or needs a licence or a login
    ├── RunError               a run folder in the wrong state for what was asked
    └── TrainingError          exit code 1: the work failed (leak found, loss not finite, out of memory, stopped)

Each message is complete on its own: it names the file, row or key, the value and what was expected. The command line
prints it after ``error:`` and leaves with the error's ``exit_code``. Anything else that is raised is a bug of pgtune
and keeps its traceback.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import Any

__all__ = [
    "AdapterError",
    "DataError",
    "HubError",
    "ModelError",
    "PgtuneError",
    "RecipeError",
    "RunError",
    "TrainingError",
]

MACHINE_REFUSALS = {
    **dict.fromkeys((errno.EACCES, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EPERM, errno.EROFS), 2),
    **dict.fromkeys((errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOMEM, errno.ENOSPC), 1),
}
"""What the system refuses, and the exit code: a name or place that cannot be, 2; a full or failing disk, 1."""


class PgtuneError(Exception):
    """Base of all errors that pgtune raises on purpose."""

    exit_code: int = 2
    on_all_ranks: bool = False
    """Whether every one of several processes that work together raises it, so that one of them says it for all."""


class RecipeError(PgtuneError):
    """A recipe, an override or a command line that does not make sense; lists every problem found.

    ``problems`` holds them one by one (`pgtune.recipe_reading.Problem`), where they were found by the schema.
    """

    def __init__(self, message: str, problems: Sequence[Any] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(problems)


class AdapterError(PgtuneError):
    """A data adapter that cannot be found, built from its arguments, or called."""


class DataError(PgtuneError):
    """A row, an image or a data file that is not as it should be; names file and row."""


class ModelError(PgtuneError):
    """A base model, tokenizer or processor that pgtune cannot use; names what was found and what was expected."""


class HubError(PgtuneError):
    """A model id that cannot be reached; says what to do (accept the licence, log in, point to a folder)."""


class RunError(PgtuneError):
    """A run folder in the wrong state for what was asked (unfinished, finished, not a run at all)."""


class TrainingError(PgtuneError):
    """The work itself failed although the input was right: a leak, a loss that is not finite, a full disk; or it was
    stopped."""

    exit_code: int = 1
