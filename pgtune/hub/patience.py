"""Every request to the Hub is tried again where that can help, and waits as long as the Hub asks for.

huggingface_hub tries some requests again by itself (uploads, preupload, LFS) and others not at all: creating a repo,
the commit, a tag, looking at a repo. Here all of them have the same patience, and so have downloads.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from pgtune.errors import HubError, TrainingError
from pgtune.progress import say

__all__ = ["ATTEMPTS", "Sleep", "Unclear", "connection_errors", "http_library", "retrying", "wait_before"]

ATTEMPTS = 6
LONGEST_WAIT = 900.0
"""A Hub that asks for more seconds than this is not waited for."""

Sleep = Callable[[float], object]


class Unclear(Exception):
    """The Hub may or may not have done what was asked for: a commit whose answer was lost.

    Args:
        wait: the seconds that the Hub asked to wait.
    """

    def __init__(self, why: str, wait: float | None) -> None:
        super().__init__(why)
        self.wait = wait


def http_library() -> Any:
    """The library that huggingface_hub asks with: httpx2, or httpx with hub 1.x."""
    from huggingface_hub.errors import HfHubHTTPError

    return sys.modules[HfHubHTTPError.__bases__[0].__module__.partition(".")[0]]


def connection_errors() -> type[Exception]:
    """What is raised where a connection fails, before an answer or in the middle of one."""
    kind: type[Exception] = http_library().TransportError
    return kind


@contextmanager
def retrying(sleep: Sleep = time.sleep, *, offline: bool = False) -> Iterator[None]:
    """Meanwhile each request of huggingface_hub has `ATTEMPTS` attempts on 408, 429, 5xx and dropped connections.

    A commit that may have been made is not sent again: that is `Unclear`, and whoever sent it looks at the head.

    Args:
        sleep: what waits.
        offline: whether a Hub that cannot be reached at all is told at once, so that the client takes what it has.

    Raises:
        TrainingError: the last attempt failed too. HubError: as the environment says, the Hub cannot be asked at all.
    """
    client, http = _client(), http_library()
    once, stream = client.request, client.stream

    def failed(error: Exception) -> str:
        if isinstance(error, (http.UnsupportedProtocol, http.LocalProtocolError, http.InvalidURL)):
            raise HubError(f"the Hub cannot be asked: {error}; look at HF_ENDPOINT and HF_TOKEN") from error
        if isinstance(error, (http.TooManyRedirects, http.DecodingError)):
            raise HubError(f"the Hub, or a proxy before it, answers so that it cannot be read: {error}") from error
        if offline and isinstance(error, http.ConnectError):
            raise error
        return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__

    def patient(method: str, url: Any, **more: Any) -> Any:
        where = f"{method} {urlsplit(str(url)).path}"
        files = [(more[key], more[key].tell()) for key in ("data", "content") if hasattr(more.get(key), "seek")]
        for attempt in range(1, ATTEMPTS + 1):
            for file, start in files:
                file.seek(start)
            wait: float | None = None
            try:
                response = once(method, url, **more)
            except (http.RequestError, http.InvalidURL) as error:
                why, undone = failed(error), isinstance(error, http.ConnectError)
            else:
                if not _again(response):
                    return response
                why, undone = f"status {response.status_code}", response.status_code == 429
                wait = asked_wait(response.headers)
            if "/commit/" in where and not undone:
                raise Unclear(why, wait)
            wait_before(where, why, attempt, wait, sleep)
        raise AssertionError("the last attempt returns or raises")

    @contextmanager
    def patient_stream(method: str, url: Any, **more: Any) -> Iterator[Any]:
        where = f"{method} {urlsplit(str(url)).path}"
        for attempt in range(1, ATTEMPTS + 1):
            wait = None
            with ExitStack() as opened:
                try:
                    response = opened.enter_context(stream(method, url, **more))
                except (http.RequestError, http.InvalidURL) as error:
                    why = failed(error)
                else:
                    if not _again(response):
                        yield response  # what fails while it is read is its reader's
                        return
                    why, wait = f"status {response.status_code}", asked_wait(response.headers)
            wait_before(where, why, attempt, wait, sleep)

    # On the client that the user may have configured; get, post and put go through request, downloads through stream.
    client.request, client.stream = patient, patient_stream
    try:
        yield
    finally:
        del client.request, client.stream


def _client() -> Any:
    """The client of huggingface_hub.

    Raises:
        HubError: it cannot be made as the environment says.
    """
    from huggingface_hub import get_session

    endpoint = urlsplit(_endpoint())
    if endpoint.scheme not in ("http", "https") or not endpoint.hostname or any(map(str.isspace, endpoint.netloc)):
        raise HubError(f"HF_ENDPOINT: {_endpoint()!r} is no address; expected such as https://huggingface.co")
    try:
        return get_session()
    except (ValueError, ImportError, http_library().InvalidURL) as error:
        said = " ".join(str(error).split())[:200]
        raise HubError(f"the Hub cannot be asked ({said}); look at HTTPS_PROXY, HTTP_PROXY and ALL_PROXY") from error


def _endpoint() -> str:
    from huggingface_hub import constants

    return str(constants.ENDPOINT)


def _again(response: Any) -> bool:
    """Whether asking again may help."""
    return bool(response.status_code in (408, 429) or response.status_code >= 500)


def wait_before(where: str, why: str, attempt: int, asked: float | None, sleep: Sleep) -> None:
    """Wait before the next attempt, as long as was asked for.

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
