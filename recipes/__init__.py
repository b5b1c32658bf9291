"""The shipped recipes, found by name: their path below this folder without ``.yaml``."""
