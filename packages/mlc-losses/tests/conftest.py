"""How the tests of this package run: one thread."""

import torch

torch.set_num_threads(1)
