"""What the processes that are killed, starved and cut off save, and whether it came back."""

try:
    import numpy as np
except ImportError:  # text takes the place of arrays, and nothing is hard-linked
    np = None

LARGE = 5_000_011  # bytes; more than one chunk of direct I/O, and no whole number of pages


def content(epoch, *, who="nobody", large=0):
    """Return what is saved of *epoch*: some data, and if *large* that many bytes of weights and a frozen part."""
    items = {"epoch": epoch, "who": who, "data": list(range(epoch, epoch + 500))}
    if large and np is None:
        items["text"] = f"{epoch:>9} " * (large // 10)
    elif large:
        items["weights"] = np.arange(large, dtype=np.uint8) * np.uint8((2 * epoch + 1) % 256)
        items["frozen"] = np.arange(100_000, dtype=np.uint32) % 251
    return items


def is_content(state, epoch, *, who="nobody", large=0):
    """Say whether *state* is what was saved of *epoch*."""
    expected = content(epoch, who=who, large=large)
    return list(state) == list(expected) and all(_equal(one, state[name]) for name, one in expected.items())


def _equal(one, other):
    if np is not None and isinstance(one, np.ndarray):
        return type(other) is np.ndarray and one.dtype == other.dtype and np.array_equal(one, other)
    return type(one) is type(other) and one == other
