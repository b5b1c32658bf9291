"""The embedded base model `tiny`: where its folder lies. Reading this imports no torch."""

from pathlib import Path

__all__ = ["path"]


def path() -> Path:
    """Folder of the shipped model: config, weights, tokenizer, processor and card, as plain transformers reads them."""
    return Path(__file__).parent / "weights"
