"""pgtune beside what a user would pick instead, measured side by side: `python -m benchmarks --help`, docs/speed.md.

No part of the wheel. Every claim is a ratio of one run; records go to `results/`, without names of machines or folders.
"""
