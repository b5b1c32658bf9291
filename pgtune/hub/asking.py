"""Asking the Hub through huggingface_hub, and its refusals and odd answers in words."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from pgtune.errors import HubError, PgtuneError
from pgtune.hub.patience import Unclear

if TYPE_CHECKING:
    from huggingface_hub import HfApi

__all__ = ["OddAnswer", "ask", "client_with_token", "refusal_in_words"]

Asked = TypeVar("Asked")


class OddAnswer(HubError):
    """An answer that is none of the Hub's: HTML of a proxy or a login page, other JSON, a redirection to nowhere."""


def ask(call: Callable[..., Asked], *args: Any, **kwargs: Any) -> Asked:
    """What a method of huggingface_hub's client returns.

    Raises:
        OddAnswer: the answer was not what the client expects, which it takes for granted.
        HubError: the client refused to ask, or could make nothing of the answer.
        HfHubHTTPError: the Hub refused.
    """
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return call(*args, **kwargs)
    except RuntimeError as error:  # the client wraps what happens in its threads
        if isinstance(error.__cause__, (PgtuneError, HfHubHTTPError, Unclear)):
            raise error.__cause__ from None
        raise
    except (AttributeError, IndexError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise OddAnswer(
            f"what answered cannot be read ({type(error).__name__}: {' '.join(str(error).split())[:100]}): is it the "
            "Hub, or a proxy or a login page before it? Look at HF_ENDPOINT and HTTPS_PROXY"
        ) from error
    except ValueError as error:
        raise HubError(" ".join(str(error).split())[:300]) from error


def client_with_token() -> HfApi:
    """The client, with the user's token.

    Raises:
        HubError: there is none, or none that can be sent.
    """
    from huggingface_hub import HfApi, get_token, is_offline_mode

    if is_offline_mode():
        raise HubError("the Hub is switched off by HF_HUB_OFFLINE; unset it to push")
    token = get_token()
    if token is None:
        raise HubError(
            "there is no token to push with: log in with `hf auth login`, or set HF_TOKEN, with a token that may write "
            "(https://huggingface.co/settings/tokens)"
        )
    if not re.fullmatch(r"[!-~]+", token):
        raise HubError("the token (HF_TOKEN, or of `hf auth login`) holds characters that no token has: copy it again")
    return HfApi(token=token, library_name="pgtune")


def refusal_in_words(repo_id: str, error: Any, done: str) -> HubError:
    """What the Hub refused, and what helps.

    Args:
        error: HfHubHTTPError.
        done: what had happened by then.
    """
    status = error.response.status_code
    said = " ".join((error.server_message or "").split())[:200]
    said = f" The Hub said: {said}" if said else ""
    if status == 401:
        what = "the Hub does not know this token: log in anew with `hf auth login`, or check HF_TOKEN"
    elif status in (402, 403):
        owner = repo_id.partition("/")[0]
        what = f"this token may not write to {owner}: it needs the right to write, and its user a place in {owner}"
    else:
        what = f"the Hub refused it (status {status})"
    return HubError(f"{repo_id}: {what}; {done}.{said}")
