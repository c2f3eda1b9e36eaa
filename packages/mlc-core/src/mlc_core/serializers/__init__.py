"""File formats for tensors."""

from mlc_core.serializers.safetensors import Safetensors

__all__ = ["Safetensors"]
