"""The contestants: each a process of its own that reads a job and writes what it measured (`common.py`).

Only `ours` may import pgtune: the others also run in environments that lack it.
"""
