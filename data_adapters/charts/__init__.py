"""Charts: ChartQA, SciCap, charts to tables, own tables."""
