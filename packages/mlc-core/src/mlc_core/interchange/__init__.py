"""Other people's files: what they saved into a checkpoint, and a checkpoint into what they read."""

from mlc_core.interchange.foreign import Foreign
from mlc_core.interchange.read import import_checkpoint, import_file, import_pt
from mlc_core.interchange.write import export_pt, export_safetensors

__all__ = ["Foreign", "export_pt", "export_safetensors", "import_checkpoint", "import_file", "import_pt"]
