"""Which files nobody needs any more."""
