"""Every request to the Hub is tried again where that can help, and waits as long as the Hub asks for.

huggingface_hub tries some requests again by itself (uploads, preupload, LFS) and others not at all: creating a repo,
the commit, a tag, looking at a repo. Here all of them have the same patience.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from pgtune.errors import TrainingError
from pgtune.progress import say

__all__ = ["ATTEMPTS", "Unclear", "retrying"]

ATTEMPTS = 6
LONGEST_WAIT = 900.0
"""A Hub that asks for more seconds than this is not waited for."""

Sleep = Callable[[float], object]


class Unclear(Exception):
    """The Hub may or may not have done what was asked for: a commit whose answer was lost."""


@contextmanager
def retrying(sleep: Sleep = time.sleep, *, offline: bool = False) -> Iterator[None]:
    """Meanwhile each request of huggingface_hub has `ATTEMPTS` attempts on 408, 429, 5xx and dropped connections.

    A commit that may have been made is not sent again: that is `Unclear`, and whoever sent it looks at the head.

    Args:
        sleep: what waits.
        offline: whether a Hub that cannot be reached at all is told at once, so that the client takes what it has.

    Raises:
        TrainingError: the last attempt failed too.
    """
    from huggingface_hub import get_session
    from huggingface_hub.errors import HfHubHTTPError

    http = sys.modules[HfHubHTTPError.__bases__[0].__module__.partition(".")[0]]  # httpx2, or httpx with hub 1.x
    client: Any = get_session()
    once = client.request

    def patient(method: str, url: Any, **more: Any) -> Any:
        where = f"{method} {urlsplit(str(url)).path}"
        files = [(more[key], more[key].tell()) for key in ("data", "content") if hasattr(more.get(key), "seek")]
        for attempt in range(1, ATTEMPTS + 1):
            for file, start in files:
                file.seek(start)
            wait: float | None = None
            try:
                response = once(method, url, **more)
            except http.TransportError as error:
                if offline and isinstance(error, http.ConnectError):
                    raise
                why = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
                undone = isinstance(error, http.ConnectError)
            else:
                if response.status_code not in (408, 429) and response.status_code < 500:
                    return response
                why, undone = f"status {response.status_code}", response.status_code == 429
                wait = asked_wait(response.headers)
            if "/commit/" in where and not undone:
                raise Unclear(why)
            _wait(where, why, attempt, wait, sleep)
        raise AssertionError("the last attempt returns or raises")

    client.request = patient  # on the client that the user may have configured; get, post and put go through it
    try:
        yield
    finally:
        del client.request


def _wait(where: str, why: str, attempt: int, asked: float | None, sleep: Sleep) -> None:
    """Wait before the next attempt.

    Raises:
        TrainingError: there is none, or the Hub asks for too much.
    """
    if attempt == ATTEMPTS:
        raise TrainingError(f"the Hub failed {ATTEMPTS} times at {where} ({why}); try again later")
    seconds = float(2 ** (attempt - 1)) if asked is None else asked
    if seconds > LONGEST_WAIT:
        raise TrainingError(f"the Hub asks to wait for {seconds:.0f} s ({where}: {why}); try again then")
    say(f"hub        {where}: {why}; attempt {attempt + 1} of {ATTEMPTS} in {seconds:g} s")
    sleep(seconds)


def asked_wait(headers: Any) -> float | None:
    """The seconds that `Retry-After` asks for, given as a number or as a date."""
    value = (headers.get("Retry-After") or "").strip()
    if value.isdecimal():
        return float(value)
    try:
        until = parsedate_to_datetime(value)
    except ValueError:  # none, or not as RFC 9110 has it
        return None
    return max(0.0, (until.replace(tzinfo=until.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
