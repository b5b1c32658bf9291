"""`pgtune report`: one HTML page that shows a run and loads nothing: scores, curves, examples worst first, the recipe.

`record` reads the run folder, `page` puts the sections together, `gallery` makes the examples' cards; `markup` is the
only place where text becomes HTML.
"""

from __future__ import annotations

from pathlib import Path

from pgtune.errors import RunError
from pgtune.hub.fetching import locate_run
from pgtune.reporting.page import page
from pgtune.reporting.record import read_record
from pgtune.writing import write_text

__all__ = ["LIMIT", "report"]

LIMIT = 200
"""Examples that a page carries unless told otherwise."""


def report(run: Path | str, out: Path | str | None = None, *, limit: int = LIMIT) -> Path:
    """Write a run as one HTML page.

    Args:
        run: a run folder, finished or not, or the id of a pushed run, which has scores and no examples.
        out: the file to write, `.html`; by default `report.html` in the run folder. One that exists is replaced.
        limit: at most so many examples are shown, three quarters of them the worst.

    Returns:
        The file.

    Raises:
        RunError: this is no run folder or a damaged one, or `out` cannot be the name of a page.
        HubError, ModelError: a pushed run cannot be fetched, or is not safe to read.
    """
    folder = locate_run(run)
    if folder.portable and out is None:
        raise RunError(f"report: {run} is a published model, which is not written into; name the page with --out")
    target = folder.path / "report.html" if out is None else Path(out)
    if target.suffix not in (".html", ".htm"):
        raise RunError(f"report: --out {target}: expected a name that ends in .html")
    if target.is_dir():
        raise RunError(f"report: --out {target}: is a folder; expected the name of the file to write")
    record = read_record(folder)
    if not target.absolute().parent.is_dir():
        raise RunError(f"report: --out {target}: the folder {target.parent} does not exist")
    write_text(target, page(record, limit))
    return target
