"""Staged states: a copy of every byte, in the same memory again, of tensors of every kind."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlc_core import StateError
from mlc_core.image import Image
from mlc_core.memory import ALIGNMENT, Slab, Spans, address_of
from mlc_core.writer import Content, Plan, lay_out


def nothing(_):
    """Leave nothing for later."""
    return False


def everything(_):
    """Leave all for later."""
    return True


def plan_of(*contents):
    """Return the plan of a checkpoint with these contents, each in pieces."""
    return Plan(
        (),
        tuple(
            Content(name=f"{number}.bin", size=sum(map(len, pieces)), pieces=pieces, serializer="test")
            for number, pieces in enumerate(contents)
        ),
    )


def staged_bytes(plan):
    """Return the content of each file of a staged plan."""
    return [b"".join(bytes(piece) for piece in one.pieces) for one in plan.contents]


pieces = st.lists(st.binary(max_size=9000), max_size=4)


@given(st.lists(st.lists(pieces, min_size=1, max_size=3), min_size=1, max_size=4))
def test_image_holds_each_state_in_turn(states):
    """Large after small and small after large, each file on a page of its own."""
    image = Image()
    for contents in states:
        staged, left = image.stage(plan_of(*contents), later=nothing)

        assert [] == left
        assert [b"".join(one) for one in contents] == staged_bytes(staged)
        assert all(address_of(next(iter(one.pieces))) % ALIGNMENT == 0 for one in staged.contents if one.size)
        assert all(one.pieces.still for one in staged.contents)


@given(st.lists(pieces, min_size=1, max_size=3))
def test_what_is_left_is_copied_later(contents):
    """To where it belongs."""
    image = Image()
    staged, left = image.stage(plan_of(*contents), later=everything)
    image.copy(left)

    assert [b"".join(one) for one in contents] == staged_bytes(staged)


def test_memory_is_used_again_and_grows():
    """The same for a state that is no larger, new for one that is."""
    made = []

    def make(size):
        made.append(size)
        return Slab(size)

    image = Image(make)
    addresses = []
    for size in (9000, 9000, 100, 9000, 90_000, 9000):
        image.stage(plan_of([bytes(size)]), later=nothing)
        addresses.append(image.slab.address)

    assert 1 == len(set(addresses[:4]))
    assert 1 == len(set(addresses[4:]))
    assert [12_288, 90_112] == made


def test_state_is_what_it_was_when_it_was_staged():
    """The copy shares nothing with what it was made from."""
    content = bytearray(b"before")
    staged, _ = Image().stage(plan_of([content]), later=nothing)
    content[:] = b"after!"

    assert [b"before"] == staged_bytes(staged)


@pytest.mark.parametrize(("given_", "word"), [([b"12345", b"678"], "more"), ([b"123"], "less"), ([], "less")])
def test_serializer_that_cannot_count_is_named(given_, word):
    """Before its bytes are taken for those of another file; the image can be used again."""
    image = Image()
    wrong = Plan((), (Content(name="a.bin", size=4, pieces=iter(given_), serializer="odd"),))
    with pytest.raises(StateError, match=f"'odd' gave {word} than the 4 bytes of a.bin"):
        image.stage(wrong, later=nothing)

    assert [b"fine"] == staged_bytes(image.stage(plan_of([b"fine"]), later=nothing)[0])


def test_serializer_may_use_one_buffer_again():
    """A piece holds until the next one is asked for."""

    def reused():
        buffer = bytearray(2)
        for piece in (b"ab", b"cd"):
            buffer[:] = piece
            yield buffer

    content = Content(name="a.bin", size=4, pieces=reused(), serializer="test")

    assert [b"abcd"] == staged_bytes(Image().stage(Plan((), (content,)), later=nothing)[0])


def test_memory_that_cannot_be_had_is_asked_for_again():
    """One failure is not the end of all saves."""
    answers = [MemoryError("none left"), Slab(ALIGNMENT)]

    def make(_):
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    image = Image(make)
    with pytest.raises(MemoryError):
        image.stage(plan_of([b"a"]), later=nothing)

    assert [b"a"] == staged_bytes(image.stage(plan_of([b"a"]), later=nothing)[0])


# ---------------------------------------------------------------------- tensors of every kind


def kinds(torch):
    """Return tensors that a copy by address could get wrong."""
    ramp = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4)
    image = torch.arange(2 * 3 * 4 * 5, dtype=torch.float32).reshape(2, 3, 4, 5)
    base = torch.arange(6, dtype=torch.float32)
    found = {
        "contiguous": ramp,
        "transposed": ramp.transpose(0, 2),
        "strided": ramp[:, ::2, 1:],
        "offset": base[3:],
        "expanded": torch.ones(1, 3).expand(5, 3),
        "channels last": image.to(memory_format=torch.channels_last),
        "0-d": torch.tensor(3.5),
        "0-d of a view": ramp[1, 2, 3],
        "empty": torch.empty(0, 3),
        "needs a gradient": torch.ones(3, requires_grad=True),
        "result": torch.ones(3, requires_grad=True) * 2,
        "parameter": torch.nn.Parameter(torch.full((2,), 7.0)),
        "bool": torch.tensor([True, False, True]),
        "bf16": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
        "int64": torch.tensor([-(2**62), 2**62]),
        "complex": torch.tensor([1 + 2j, 3 - 4j]),
        "conjugate": torch.tensor([1 + 2j, 3 - 4j]).conj(),
        "negative": torch.tensor([1 + 2j, 3 - 4j]).conj().imag,
    }
    for name in ("float8_e4m3fn", "float8_e5m2"):
        if hasattr(torch, name):
            found[name] = torch.tensor([0.5, -1.0, 2.0]).to(getattr(torch, name))
    with torch.inference_mode():
        found["inference"] = torch.ones(2) + 1
    return found


@pytest.mark.parametrize("later", [nothing, everything], ids=["at once", "later"])
def test_tensors_of_every_kind_are_staged_as_they_are_written(later):
    """What lies in the image is what a save that waits would have written, byte for byte."""
    torch = pytest.importorskip("torch")
    state = {name: tensor for name, tensor in kinds(torch).items() if tensor.numel()}
    plan = lay_out({"model": state}, serializer="safetensors")
    expected = staged_bytes(plan)
    image = Image()
    staged, left = image.stage(plan, later=later)
    image.copy(left)

    assert expected == staged_bytes(staged)
    assert any(isinstance(one.pieces, Spans) for one in plan.contents)
    for name, tensor in state.items():
        plain = tensor.detach().resolve_conj().resolve_neg().contiguous()
        assert plain.reshape(-1).view(torch.uint8).numpy().tobytes() in expected[1], name


def test_tensors_of_every_kind_come_back(tmp_path):
    """Staged, written and loaded, with their shapes and values."""
    torch = pytest.importorskip("torch")
    from mlc_core import CheckpointManager

    state = kinds(torch)
    with CheckpointManager(tmp_path, "odd") as manager:
        manager.async_save_checkpoint(items={"odd": state}, epoch=1)
        manager.wait()
        found = manager.load_checkpoint().state["odd"]

    assert {name: (one.dtype, one.shape) for name, one in state.items()} == {
        name: (one.dtype, one.shape) for name, one in found.items()
    }
    assert [] == [name for name, one in state.items() if not torch.equal(one.detach(), found[name])]
