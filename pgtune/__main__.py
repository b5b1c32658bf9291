"""``python -m pgtune``: the same as the command ``pgtune``."""

from pgtune.cli import entry_point

entry_point()
