"""Tensors of torch and NumPy to plain bytes and back. Neither is imported until one of its tensors arrives."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any

from mlc_core.errors import ConfigurationError, StateError
from mlc_core.protocols import TensorBytes

if TYPE_CHECKING:
    from types import ModuleType

    import numpy as np
    import torch

    from mlc_core.protocols import Buffer

__all__ = [
    "array_to_bytes",
    "bytes_to_array",
    "bytes_to_tensor",
    "check_tensor",
    "is_array",
    "is_tensor",
    "require",
    "storage_key",
    "tensor_to_bytes",
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
    "C64": "complex64",
}
TORCH_NAMES = {name: code for code, name in TORCH_DTYPES.items()}
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


def is_tensor(value: object) -> bool:
    """Say whether *value* is a torch tensor, without importing torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def is_array(value: object) -> bool:
    """Say whether *value* is a NumPy array or scalar, without importing NumPy."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, (numpy.ndarray, numpy.generic))


def check_tensor(tensor: torch.Tensor, path: str) -> None:
    """Refuse what has no exact form in a file.

    Raises:
        StateError: If it is not a plain dense tensor of a dtype that a file can hold; names *path* and the way out.
    """
    import torch

    kind = type(tensor)
    if kind not in {torch.Tensor, torch.nn.Parameter}:
        msg = f"{path} is a {kind.__module__}.{kind.__qualname__}; save the plain tensor that it stands for"
        raise StateError(msg)
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_meta:
        what = "quantized" if tensor.is_quantized else "without data (meta)" if tensor.is_meta else str(tensor.layout)
        msg = f"{path} is {what}, which safetensors cannot hold; save a dense copy of it, or its parts"
        raise StateError(msg)
    if _name_dtype(tensor) not in TORCH_NAMES:
        msg = f"{path} has dtype {tensor.dtype}, which safetensors cannot hold; save a view or a copy of another dtype"
        raise StateError(msg)


def _name_dtype(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def tensor_to_bytes(tensor: torch.Tensor) -> TensorBytes:
    """Return the elements of a checked *tensor*, sharing its memory where it is on the CPU and contiguous."""
    import torch

    plain = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous()
    data: Buffer = plain.reshape(-1).view(torch.uint8).numpy().data if plain.numel() else b""
    return TensorBytes(TORCH_NAMES[_name_dtype(tensor)], tuple(tensor.shape), data)


def bytes_to_tensor(raw: TensorBytes) -> torch.Tensor:
    """Return a torch tensor that shares the memory of *raw*."""
    module = require("torch")
    dtype = getattr(module, TORCH_DTYPES[raw.dtype])
    if math.prod(raw.shape) == 0:
        empty: torch.Tensor = module.empty(raw.shape, dtype=dtype)
        return empty
    tensor: torch.Tensor = module.frombuffer(raw.data, dtype=dtype).reshape(raw.shape)
    return tensor


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


def storage_key(tensor: torch.Tensor) -> tuple[object, ...] | None:
    """Return what two tied tensors have in common: the very same elements seen the same way."""
    if tensor.numel() == 0:
        return None
    seen = (tensor.dtype, tuple(tensor.shape), tensor.stride(), tensor.is_conj(), tensor.is_neg())
    return (tensor.device, tensor.data_ptr(), *seen)


def require(name: str) -> ModuleType:
    """Import torch or NumPy, because the state holds values of theirs.

    Raises:
        ConfigurationError: If it is not installed; says how.
    """
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError as error:
        msg = f"the checkpoint holds values of {name}; install it to load them: pip install 'mlc-core[torch]'"
        raise ConfigurationError(msg) from error
