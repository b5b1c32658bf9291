"""Sheet music: GrandStaff, PrIMuS, own scores."""
