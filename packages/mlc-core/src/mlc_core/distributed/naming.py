"""What files and items of a sharded checkpoint are called. Needs no torch."""

from __future__ import annotations

__all__ = ["SHARDED", "rank_name", "shard_name"]

SHARDED = "sharded.json"


def shard_name(item: str, rank: int, suffix: str) -> str:
    """Return the name of the file with *rank*'s pieces of *item*."""
    return f"{item}-rank{rank:05}{suffix}"


def rank_name(item: str, rank: int) -> str:
    """Return what *rank*'s own *item* is called, where each rank has one."""
    return f"{item}_rank{rank:05}"
