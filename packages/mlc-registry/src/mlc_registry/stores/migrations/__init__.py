"""The steps from an older database to the one that this version reads, taken by Alembic."""
