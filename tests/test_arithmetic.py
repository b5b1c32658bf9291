"""`train.tf32` and `train.deterministic`: set for a run on a GPU, and put back."""

from __future__ import annotations

import os

import pytest
import torch

from pgtune.arithmetic import arithmetic


def state():
    return (
        torch.backends.cuda.matmul.allow_tf32,
        torch.backends.cudnn.allow_tf32,
        torch.are_deterministic_algorithms_enabled(),
    )


@pytest.mark.parametrize("tf32", [False, True])
@pytest.mark.parametrize("deterministic", [False, True])
def test_it_holds_for_the_run_and_no_longer(monkeypatch, tf32, deterministic):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    before = state()

    def run():
        with arithmetic(tf32=tf32, deterministic=deterministic):
            assert state() == (tf32, tf32, deterministic)
            assert os.environ.get("CUBLAS_WORKSPACE_CONFIG") == (":4096:8" if deterministic else None)
            raise RuntimeError("ended")

    with pytest.raises(RuntimeError, match="ended"):
        run()
    assert state() == before


def test_a_cpu_is_left_as_it_is(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    before = state()
    with arithmetic(tf32=not before[0], deterministic=True):
        assert state() == before
