"""How the tests of this package run: one thread, and with what they share within reach."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))  # oracle, pairs and ranks; processes that tests start get it too

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def traced_anew():
    """Let no test run into the limit of what all losses together may be traced anew."""
    yield
    if "torch._dynamo" in sys.modules:
        sys.modules["torch._dynamo"].reset()
