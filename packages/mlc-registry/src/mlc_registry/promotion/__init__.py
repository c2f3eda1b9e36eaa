"""Which version may come into which stage, and how it gets there."""
