"""Models constructed from what was registered, and given their weights."""
