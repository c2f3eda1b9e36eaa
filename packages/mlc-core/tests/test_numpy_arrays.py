"""NumPy arrays and scalars come back as they were, or are refused by name."""

import pytest

np = pytest.importorskip("numpy")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from mlc_core import CheckpointManager, StateError  # noqa: E402

KINDS = ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "b1", "c8"]


def there_and_back(place, value):
    """Save *value* and load it."""
    manager = CheckpointManager(place, "unet")
    manager.save_checkpoint(items={"data": value}, epoch=1)
    return manager.load_checkpoint("latest").state["data"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_dtype_comes_back(place, kind):
    """Arrays of no, one and two axes, empty ones, other byte orders, strides and layouts; and scalars as scalars."""
    full = (np.arange(24) % 2 if kind == "b1" else np.arange(24)).astype(kind).reshape(4, 6)
    values = {
        "full": full,
        "none": full[:0],
        "single": np.array(full[1, 1]),
        "column": full[::2, 3],
        "backwards": full[::-1, ::-2],
        "fortran": np.asfortranarray(full),
        "big": full.astype(np.dtype(kind).newbyteorder(">")),
        "scalar": full[1, 1],
    }
    found = there_and_back(place, values)

    for name, value in values.items():
        assert type(value) is type(found[name])
        assert (value.shape, value.dtype.newbyteorder("=")) == (found[name].shape, found[name].dtype)
        np.testing.assert_array_equal(value, found[name])


@given(data=st.lists(st.floats(width=32), max_size=8))
def test_every_bit_comes_back(tmp_path_factory, data):
    """NaN and the sign of zero included."""
    value = np.array(data, np.float32)

    assert value.tobytes() == there_and_back(tmp_path_factory.mktemp("bits"), value).tobytes()


def test_loaded_array_is_ones_own(tmp_path):
    """It can be written to, and the file does not change."""
    array = there_and_back(tmp_path, np.zeros(50_000))
    array[:] = 1

    assert 0 == CheckpointManager(tmp_path, "unet").load_checkpoint().state["data"].sum()


def test_state_of_a_generator_comes_back(tmp_path):
    """A generator goes on with the same numbers."""
    generator = np.random.default_rng(3)
    generator.random(5)
    other = np.random.default_rng(4)
    other.bit_generator.state = there_and_back(tmp_path, generator.bit_generator.state)

    assert generator.random() == other.random()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.zeros(2, "c16"), "data.x is an array of complex128, which safetensors cannot hold"),
        (np.array(["a"]), "data.x is an array of <U1"),
        (np.array([None]), "data.x is an array of object"),
        (np.zeros(2, [("a", "f4")]), "data.x is an array of"),
        (np.datetime64("2024-01-01"), "data.x is an array of datetime64"),
        (np.str_("text"), "data.x is an array of <U4"),
        (np.ma.masked_array([1, 2], [0, 1]), "data.x is a numpy.ma.*MaskedArray; save the plain arrays"),
        (np.recarray((2,), dtype=[("a", "f4")]), r"data.x is a numpy.*recarray; save the plain arrays"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_would_be_lost_is_refused_by_name(place, value, message):
    """Masks, fields, objects and text have no exact form."""
    with pytest.raises(StateError, match=message):
        there_and_back(place, {"x": value})
