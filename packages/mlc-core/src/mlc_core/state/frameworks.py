"""Tensors of torch and NumPy to plain bytes and back. Neither is imported until one of its tensors arrives."""

from __future__ import annotations

import functools
import math
import sys
import weakref
from typing import TYPE_CHECKING, Any

from mlc_core.errors import ConfigurationError, StateError
from mlc_core.protocols import TensorBytes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType

    import numpy as np
    import torch

    from mlc_core.memory import Slab
    from mlc_core.protocols import Buffer

__all__ = [
    "TensorMemory",
    "are_tied",
    "array_to_bytes",
    "bytes_to_array",
    "bytes_to_tensor",
    "is_array",
    "pin",
    "plain_types",
    "require",
    "tensor_to_bytes",
    "tensor_types",
    "unfit_error",
    "wait_for_devices",
]

TORCH_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F8_E8M0": "float8_e8m0fnu",
    "C64": "complex64",
}
WAYS_OUT = {  # of dtypes that the format does not know: the same bits under a dtype that it knows
    "complex128": "torch.view_as_real(it), of float64, which torch.view_as_complex takes back",
    "complex32": "torch.view_as_real(it), of float16, which torch.view_as_complex takes back",
    "float4_e2m1fn_x2": "it.view(torch.uint8), which .view(torch.float4_e2m1fn_x2) takes back",
}
BITS = "it.view(torch.uint8), which .view(dtype) takes back"
NUMPY_DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "|i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "|u1",
    "BOOL": "|b1",
    "C64": "<c8",
}
NUMPY_NAMES = {name: code for code, name in NUMPY_DTYPES.items()}


def is_array(value: object) -> bool:
    """Say whether *value* is a NumPy array or scalar, without importing NumPy."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, (numpy.ndarray, numpy.generic))


def unfit_error(tensor: torch.Tensor, path: str) -> StateError:
    """Return why *tensor*, which lies at *path* in the state, has no exact form in a file, and the way out."""
    kind = type(tensor)
    if kind not in _torch_facts()[0]:
        return StateError(f"{path} is a {kind.__module__}.{kind.__qualname__}; {_leave_class(kind)}")
    strange = _describe(tensor)
    if strange is not None:
        return StateError(f"{path} is {strange[0]}, which safetensors cannot hold; {strange[1]}")
    way_out = WAYS_OUT.get(_name_dtype(tensor), BITS)
    return StateError(f"{path} has dtype {tensor.dtype}, which safetensors cannot hold; save {way_out}")


def _leave_class(kind: type) -> str:
    """Return what to save instead of a tensor of the class *kind*."""
    if kind.__name__.startswith("Uninitialized"):
        return "run the model once, so that it gets its shape, and then save it"
    if kind.__name__ == "DTensor":
        return "it is one shard of several: save its full_tensor()"
    return "save the plain tensor that it stands for"


def _describe(tensor: torch.Tensor) -> tuple[str, str] | None:
    """Return what makes *tensor* more or less than its elements in order, and the way out; None if nothing does."""
    import torch

    if tensor.is_meta:
        return "without data (meta)", "give the model its values first: model.to_empty(device=…), then load them"
    if tensor.is_quantized:
        return "quantized", "save its int_repr() and its scales and zero points, or a dequantize()d copy"
    if tensor.is_nested:
        return "nested", "save a list of the tensors that it consists of: its unbind()"
    if tensor.layout is not torch.strided:
        parts = "its indices() and values()" if tensor.layout is torch.sparse_coo else "its parts"
        return str(tensor.layout), f"save a dense copy of it, or {parts}"
    return None


def _name_dtype(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


class TensorMemory:
    """The elements of a checked torch tensor, where they are."""

    __slots__ = ("size", "tensor")

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor
        self.size = tensor.nbytes

    def address(self) -> int | None:
        """Return where the elements are, if they are on the CPU and in order."""
        tensor = self.tensor
        if tensor.is_cpu and tensor.is_contiguous() and not (tensor.is_conj() or tensor.is_neg()):
            return tensor.data_ptr()
        return None

    def view(self) -> Buffer:
        """Return the elements, sharing their memory if they are on the CPU and in order."""
        import torch

        if not self.size:
            return b""
        plain = self.tensor.detach().resolve_conj().resolve_neg().cpu().contiguous()
        data: Buffer = _flat(plain).view(torch.uint8).numpy().data
        return data

    def copy_to(self, target: memoryview) -> None:
        """Copy the elements to *target*, from a device straight into it."""
        import torch

        if self.size:
            plain = self.tensor.detach().resolve_conj().resolve_neg().contiguous()
            torch.frombuffer(target, dtype=torch.uint8).copy_(_flat(plain).view(torch.uint8))


def _flat(plain: torch.Tensor) -> torch.Tensor:
    """Return the elements of a contiguous tensor in one row; torch calls one element contiguous whatever its stride."""
    return plain.as_strided((plain.numel(),), (1,))


def tensor_to_bytes(tensor: torch.Tensor) -> TensorBytes | None:
    """Return the elements of *tensor*, which stay where they are until they are needed; None if it has no exact form.

    Asked for each of ten thousand tensors: what is wrong with one, `unfit_error` says.
    """
    plain, strided, codes = _torch_facts()
    code = codes.get(tensor.dtype)
    strange = tensor.layout is not strided or tensor.is_meta or tensor.is_nested
    if code is None or type(tensor) not in plain or strange:
        return None
    return TensorBytes(code, tuple(tensor.shape), TensorMemory(tensor))


@functools.cache
def _torch_facts() -> tuple[frozenset[type], torch.layout, Mapping[torch.dtype, str]]:
    import torch

    codes = {getattr(torch, name): code for code, name in TORCH_DTYPES.items() if hasattr(torch, name)}
    return frozenset({torch.Tensor, torch.nn.Parameter}), torch.strided, codes


def pin(slab: Slab) -> Slab:
    """Let CUDA copy to *slab* at full speed, if it is in use and allows it; it stays pinned until it is given back."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        refused = torch.cuda.cudart().cudaHostRegister(slab.address, slab.size, 0)  # as where the limit is low
        if not int(refused):
            weakref.finalize(slab, torch.cuda.cudart().cudaHostUnregister, slab.address)
    return slab


def wait_for_devices() -> None:
    """Wait until CUDA's current streams have done their work: the threads that copy have others, which do not wait."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        for device in range(torch.cuda.device_count()):
            torch.cuda.current_stream(device).synchronize()


def plain_types() -> frozenset[type]:
    """Return the classes of tensors that are nothing but their elements; none where torch is not in use."""
    return _torch_facts()[0] if tensor_types() else frozenset()


def tensor_types() -> tuple[type, ...]:
    """Return what torch calls a tensor; nothing where torch is not in use. Does not import it."""
    torch = sys.modules.get("torch")
    return (torch.Tensor,) if torch is not None else ()


def are_tied(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Say whether two tensors at one address are the very same elements seen the same way."""
    return (
        one.device == other.device
        and one.dtype == other.dtype
        and one.shape == other.shape
        and one.stride() == other.stride()
        and one.is_conj() == other.is_conj()
        and one.is_neg() == other.is_neg()
    )


def bytes_to_tensor(raw: TensorBytes) -> torch.Tensor:
    """Return a torch tensor that shares the memory of *raw*."""
    module = require("torch")
    dtype = getattr(module, TORCH_DTYPES[raw.dtype])
    if not math.prod(raw.shape):
        empty: torch.Tensor = module.empty(raw.shape, dtype=dtype)
        return empty
    flat: torch.Tensor = module.frombuffer(raw.data, dtype=dtype)
    return flat if flat.shape == raw.shape else flat.reshape(raw.shape)


def array_to_bytes(array: np.ndarray[Any, Any] | np.generic, path: str) -> TensorBytes:
    """Return the elements of a NumPy *array* or scalar.

    Raises:
        StateError: If its class or dtype has no exact form in a file.
    """
    import numpy as np

    kind = type(array)
    if isinstance(array, np.ndarray) and kind not in {np.ndarray, np.memmap}:
        msg = f"{path} is a {kind.__module__}.{kind.__qualname__}; save the plain arrays that it consists of"
        raise StateError(msg)
    values = np.asarray(array)
    dtype = NUMPY_NAMES.get(values.dtype.newbyteorder("<").str)
    if dtype is None:
        msg = f"{path} is an array of {values.dtype}, which safetensors cannot hold; convert it to a numeric dtype"
        raise StateError(msg)
    shape = values.shape  # ascontiguousarray makes a scalar one-dimensional
    little = np.ascontiguousarray(values, dtype=NUMPY_DTYPES[dtype])
    data: Buffer = little.reshape(-1).view(np.uint8).data if values.size else b""
    return TensorBytes(dtype, shape, data)


def bytes_to_array(raw: TensorBytes) -> np.ndarray[Any, Any]:
    """Return a NumPy array of its own with the elements of *raw*."""
    numpy = require("numpy")
    flat: np.ndarray[Any, Any] = numpy.frombuffer(raw.data, dtype=NUMPY_DTYPES[raw.dtype], count=math.prod(raw.shape))
    return flat.reshape(raw.shape).copy()


def require(name: str) -> ModuleType:
    """Import torch or NumPy, because the state holds values of theirs.

    Raises:
        ConfigurationError: If it is not installed; says how.
    """
    loaded = sys.modules.get(name)
    if loaded is not None:  # asked for each of ten thousand tensors
        return loaded
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError as error:
        msg = f"the checkpoint holds values of {name}; install it to load them: pip install 'mlc-core[torch]'"
        raise ConfigurationError(msg) from error
