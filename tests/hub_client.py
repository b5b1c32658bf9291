"""A process beside the tests whose huggingface_hub knows only the loopback Hub.

Where the Hub lies, and whether it is asked at all, is read from the environment once, when the library is imported: so
what talks to it runs in a process of its own, with the real client and nothing patched.
"""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from hub_server import TOKEN, Hub

CANARY_OF_THE_ENVIRONMENT = "canary7environment"


@contextlib.contextmanager
def client_of(hub: Hub, home: Path) -> Iterator[Callable[..., Any]]:
    """What calls a function of this module, or of pgtune, in that process."""
    environment = {
        "HF_ENDPOINT": hub.url,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HOME": str(home),
        "HF_TOKEN": TOKEN,
        "NO_PROXY": "127.0.0.1",
        "PGTUNE_SOMETHING": CANARY_OF_THE_ENVIRONMENT,
    }
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
    pool.submit(os.getpid).result()  # it has taken the environment
    for name, value in before.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value

    def call(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return pool.submit(function, *args, **kwargs).result(timeout=300)

    with pool:
        yield call


def pushed(*args: Any, token: str | None = TOKEN, **kwargs: Any) -> tuple[Any, list[float]]:
    """What `push` returns or raises, and the seconds that it would have waited."""
    from pgtune.errors import PgtuneError
    from pgtune.hub.pushing import push

    waits: list[float] = []
    with _token(token):
        try:
            return push(*args, sleep=waits.append, **kwargs), waits
        except PgtuneError as error:
            return error, waits


@contextlib.contextmanager
def _token(token: str | None) -> Iterator[None]:
    if token is None:
        del os.environ["HF_TOKEN"]
    else:
        os.environ["HF_TOKEN"] = token
    yield
    os.environ["HF_TOKEN"] = TOKEN


def command(*words: str, folder: Path | None = None, token: str | None = TOKEN) -> tuple[int, str, str]:
    """Exit code and what is printed by a command."""
    from pgtune.cli import main

    out, err = io.StringIO(), io.StringIO()
    with (
        _token(token),
        contextlib.chdir(folder or Path.cwd()),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        code = main(words)
    return code, out.getvalue(), err.getvalue()


def fetched(repo_id: str, revision: str | None = None) -> Any:
    """What `locate_run` finds or raises, by its recipe's method."""
    from pgtune.errors import PgtuneError
    from pgtune.loading import locate_run

    try:
        folder = locate_run(repo_id if revision is None else f"{repo_id}@{revision}")
        return folder.path, folder.recipe()
    except PgtuneError as error:
        return error


def downloaded(repo_id: str) -> tuple[Any, list[float]]:
    """The folder of a repo or what is raised, and the seconds that it would have waited."""
    from pgtune.errors import PgtuneError
    from pgtune.hub.fetching import run_from_hub

    waits: list[float] = []
    try:
        return run_from_hub(repo_id, sleep=waits.append), waits
    except PgtuneError as error:
        return error, waits


def run_sample(card: str, folder: Path, prompt: str) -> str:
    """What the card's Python prints for a prompt, in a folder that holds photo.png."""
    code = card.partition("```python\n")[2].partition("```")[0].replace("your prompt", prompt)
    out = io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(out):
        exec(compile(code, "README.md", "exec"), {})
    return out.getvalue().removesuffix("\n")


def logits_of(run: Path | str, repo_id: str, base: str) -> tuple[bool, bool, float]:
    """Whether a pushed adapter, loaded without pgtune, computes the bits of the run: with its base, by AutoPeftModel;
    and how far its base alone is off."""
    import torch
    from peft import AutoPeftModel, PeftModel
    from transformers import PaliGemmaForConditionalGeneration

    from pgtune import load

    run_model = load(run)
    config = run_model.loaded.paligemma.config
    tokens = (config.vision_config.image_size // config.vision_config.patch_size) ** 2
    ids = torch.tensor([[config.image_token_id] * tokens + [2, 17, 23, 31, 108]])
    size = config.vision_config.image_size
    inputs = {"input_ids": ids, "pixel_values": torch.linspace(-1, 1, 3 * size * size).reshape(1, 3, size, size)}
    settings = {"dtype": torch.float32, "attn_implementation": {"text_config": "eager"}}

    @torch.no_grad()
    def logits(model: Any) -> Any:
        return model(**inputs).logits

    def uncapped(model: Any) -> Any:
        model.config.get_text_config().final_logit_softcapping = None
        return model.eval()

    # As the run has it: eager here for both generations, so that the same kernels run.
    run_model.loaded.paligemma.set_attn_implementation({"text_config": "eager"})
    wanted = logits(run_model.loaded.model)
    model: Any = uncapped(PaliGemmaForConditionalGeneration.from_pretrained(base, **settings))
    alone = logits(model)
    with_base = logits(PeftModel.from_pretrained(model, repo_id).eval())
    found: Any = AutoPeftModel.from_pretrained(repo_id, **settings)
    uncapped(found.get_base_model())
    auto = logits(found.eval())
    return torch.equal(with_base, wanted), torch.equal(auto, wanted), float((alone - wanted).abs().max())
