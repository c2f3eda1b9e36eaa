"""What happened: sealed, proved, told, and moved elsewhere."""
