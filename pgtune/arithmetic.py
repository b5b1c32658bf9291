"""How a GPU computes, for the whole of a run: tf32 or not, and whether only kernels that repeat to the last bit."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["arithmetic"]

_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


@contextmanager
def arithmetic(*, tf32: bool, deterministic: bool) -> Iterator[None]:
    """Around a run. A CPU has no tf32 and repeats itself anyhow: nothing is touched there.

    Args:
        tf32: multiply float32 matrices in tf32.
        deterministic: an operation without a kernel that repeats itself raises.
    """
    if not torch.cuda.is_available():
        yield
        return
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = (matmul.allow_tf32, cudnn.allow_tf32, torch.are_deterministic_algorithms_enabled())
    matmul.allow_tf32 = cudnn.allow_tf32 = tf32
    if deterministic:
        os.environ.setdefault(_WORKSPACE, ":4096:8")  # cuBLAS repeats itself only with this
        torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before[:2]
        torch.use_deterministic_algorithms(before[2])
