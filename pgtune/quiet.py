"""Keeps the libraries' chatter off the terminal: their progress bars and advice are not for pgtune's users."""

from __future__ import annotations

import functools
import logging


@functools.cache
def quiet_libraries() -> None:
    """Errors only from the libraries around the model, and no bar while weights are read or written."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    for name in ("bitsandbytes", "peft", "accelerate", "huggingface_hub", "torch.distributed"):
        logging.getLogger(name).setLevel(logging.ERROR)
