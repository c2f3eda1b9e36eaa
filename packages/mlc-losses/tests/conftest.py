"""How the tests of this package run: one thread, no deadlines on a shared machine."""

import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("mlc-losses", deadline=None, max_examples=50)
settings.load_profile("mlc-losses")
