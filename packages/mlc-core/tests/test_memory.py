"""Memory by its address: where buffers are, what is hashed there, and slabs that belong to one process alone."""

import mmap
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from mlc_core.memory import ALIGNMENT, Slab, Spans, address_of, digest_of, view_at

SCRIPTS = Path(__file__).parent / "scripts"
FORMS = [bytes, bytearray, lambda piece: memoryview(bytes(piece)), lambda piece: memoryview(bytearray(piece))]


class Elsewhere:
    """Content that must be copied before it can be read, as a tensor on a device."""

    def __init__(self, content):
        self.content = bytes(content)
        self.size = len(self.content)

    def address(self):
        """Return nothing: it cannot be read where it is."""

    def view(self):
        """Return a copy."""
        return bytearray(self.content)

    def copy_to(self, target):
        """Copy it."""
        target[:] = self.content


class Here(Elsewhere):
    """Content that can be read where it is."""

    def address(self):
        """Return where that is."""
        return address_of(self.content)


@st.composite
def cut_contents(draw, forms=(*FORMS, Elsewhere, Here), longest=5000):
    """Return some content, and the same content in parts of all forms, empty ones among them."""
    content = draw(st.binary(max_size=longest))
    cuts = sorted(draw(st.lists(st.integers(0, len(content)), max_size=6)))
    pieces = [content[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(content)], strict=True)]
    return content, [draw(st.sampled_from(forms))(piece) for piece in pieces]


@given(cut_contents())
def test_content_is_the_same_however_it_is_cut(drawn):
    """Buffers and addresses give the same bytes in order, and the digest is that of all of them."""
    content, parts = drawn
    spans = Spans(parts)

    assert content == b"".join(bytes(piece) for piece in spans)
    assert content == b"".join(bytes(view_at(address, size)) for address, size in spans.spans())
    assert xxhash.xxh3_128_hexdigest(content) == spans.digest()


@given(cut_contents(forms=(*FORMS, Here)), st.data())
def test_sketch_does_not_depend_on_the_cut(drawn, data):
    """What was staged in one piece looks like what lies in many, or an unchanged file would be written again."""
    content, parts = drawn
    cut = data.draw(st.integers(0, len(content)))

    assert Spans([content]).sketch() == Spans(parts).sketch() == Spans([content[:cut], content[cut:]]).sketch()


@given(st.binary(min_size=1, max_size=2048), st.data())
def test_sketch_sees_every_change_of_a_short_content(content, data):
    """Below two kilobytes it looks at every byte."""
    changed = bytearray(content)
    changed[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))

    assert Spans([content]).sketch() != Spans([changed]).sketch()


def test_sketch_needs_to_read_in_place():
    """What would have to be copied from a device first has none."""
    assert Spans([b"abc", Elsewhere(b"def")]).sketch() is None
    assert Spans([]).sketch() == Spans([b""]).sketch()


@pytest.mark.parametrize("form", FORMS)
def test_address_is_where_the_first_byte_is(form):
    """Of a part as of the whole."""
    buffer = form(b"0123456789")

    assert b"0123456789" == bytes(view_at(address_of(buffer), 10))
    assert address_of(buffer) + 3 == address_of(memoryview(buffer)[3:])
    assert b"" == bytes(view_at(address_of(b""), 0))


def test_address_keeps_nothing_locked():
    """A bytearray may grow again."""
    buffer = bytearray(b"abc")
    address_of(buffer)
    buffer += bytes(100_000)

    assert 100_003 == len(buffer)


def test_address_of_what_is_not_in_one_piece_is_refused():
    """Every second byte has no address."""
    with pytest.raises(BufferError):
        address_of(memoryview(b"abcdef")[::2])


def test_view_is_read_only():
    """Nobody writes to a tensor by accident."""
    with pytest.raises(TypeError):
        view_at(address_of(b"abc"), 3)[0] = 1


@pytest.mark.parametrize("size", [0, 1, 65_536, (32 << 20) - 1, (32 << 20) + 1])
def test_digest_is_that_of_the_bytes(tmp_path, size):
    """Of memory and of mapped files, in as many pieces as it takes."""
    content = random.Random(size).randbytes(size)
    expected = xxhash.xxh3_128_hexdigest(content)
    (tmp_path / "file").write_bytes(content)

    assert expected == digest_of(memoryview(content))
    if size:
        with (tmp_path / "file").open("rb") as opened:
            mapped = memoryview(mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_COPY))
        assert expected == digest_of(mapped)
        assert xxhash.xxh3_128_hexdigest(content[1:]) == digest_of(mapped[1:])


@pytest.mark.parametrize("size", [1, 4096, 4097, 5 << 20])
def test_slab_begins_on_a_page(size):
    """As direct I/O wants it, and with room for what was asked."""
    slab = Slab(size)

    assert 0 == slab.address % ALIGNMENT
    assert slab.size == len(slab.view) >= size
    slab.view[size - 1] = 7
    assert 7 == view_at(slab.address + size - 1, 1)[0]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing is forked here")
def test_slab_is_not_shared_with_a_forked_process():
    """Two processes that save would write each other's bytes, and hash them as their own."""
    done = subprocess.run(
        [sys.executable, SCRIPTS / "async_fork.py", "slab"], check=True, capture_output=True, text=True
    )

    assert "ours" == done.stdout.strip()
