"""What people say of versions, what changed between two of them, and what number that deserves."""
