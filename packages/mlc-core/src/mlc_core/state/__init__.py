"""State to files and back: tensors as tensors, everything else as typed JSON, nothing as pickle."""

from mlc_core.state.document import decode_document, encode_document
from mlc_core.state.items import ItemState, collect, model_state

__all__ = ["ItemState", "collect", "decode_document", "encode_document", "model_state"]
