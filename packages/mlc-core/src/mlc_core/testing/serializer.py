"""What holds for every serializer, as tests to inherit."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlc_core.testing.strategies import tensor_files

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlc_core.protocols import Serializer, TensorBytes

__all__ = ["SerializerContract"]


class SerializerContract:
    """What holds for every serializer. Subclass it and give the fixture `serializer`."""

    @pytest.fixture
    def serializer(self) -> Serializer:
        """Return the serializer; override this."""
        msg = "give the fixture serializer"
        raise NotImplementedError(msg)

    def test_suffix_ends_a_file_name(self, serializer: Serializer) -> None:
        """It begins with a dot and has no directory in it."""
        assert serializer.suffix.startswith(".")
        assert "/" not in serializer.suffix

    def test_tensors_come_back(self, serializer: Serializer) -> None:
        """Names, dtypes, shapes and every byte are what they were, and the file has the size that was announced."""

        @given(tensor_files())
        def check(tensors: Mapping[str, TensorBytes]) -> None:
            size, pieces = serializer.dump(tensors)
            content = b"".join(bytes(piece) for piece in pieces)

            assert size == len(content)
            assert _plain(tensors) == _plain(serializer.load(memoryview(content)))

        check()

    def test_same_tensors_give_the_same_file(self, serializer: Serializer) -> None:
        """Nothing but the tensors is in the file: no time, no name of a machine."""

        @given(tensor_files())
        def check(tensors: Mapping[str, TensorBytes]) -> None:
            assert _content(serializer, tensors) == _content(serializer, tensors)

        check()

    def test_truncated_file_is_refused(self, serializer: Serializer) -> None:
        """No beginning of a file is a file."""

        @given(tensor_files(), st.data())
        def check(tensors: Mapping[str, TensorBytes], data: st.DataObject) -> None:
            content = _content(serializer, tensors)
            length = data.draw(st.integers(0, len(content) - 1), label="bytes left")

            with pytest.raises(ValueError, match=r"."):
                serializer.load(memoryview(content[:length]))

        check()

    def test_changed_file_is_read_or_refused(self, serializer: Serializer) -> None:
        """Whatever byte is changed, the answer is tensors or ValueError; what is found out is for digests to say."""

        @given(tensor_files(), st.data())
        def check(tensors: Mapping[str, TensorBytes], data: st.DataObject) -> None:
            content = bytearray(_content(serializer, tensors))
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
            self._read_or_refuse(serializer, bytes(content))

        check()

    def test_anything_else_is_refused(self, serializer: Serializer) -> None:
        """Bytes that were never a file are read or refused with ValueError, and nothing else happens."""

        @given(st.binary(max_size=200))
        def check(content: bytes) -> None:
            self._read_or_refuse(serializer, content)

        check()

    def _read_or_refuse(self, serializer: Serializer, content: bytes) -> None:
        with suppress(ValueError):
            serializer.load(memoryview(content))


def _content(serializer: Serializer, tensors: Mapping[str, TensorBytes]) -> bytes:
    return b"".join(bytes(piece) for piece in serializer.dump(tensors)[1])


def _plain(tensors: Mapping[str, TensorBytes]) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    return {name: (one.dtype, tuple(one.shape), bytes(one.data)) for name, one in tensors.items()}
