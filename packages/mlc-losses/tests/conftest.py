"""How the tests of this package run: one thread, and with what they share within reach."""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))  # oracle, pairs and ranks; processes that tests start get it too

torch.set_num_threads(1)
