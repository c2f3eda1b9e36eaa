"""Directories for people, drawn from the database."""
