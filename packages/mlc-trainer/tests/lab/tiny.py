"""A model and data so small that a whole run takes a tenth of a second: what the tests' configurations name."""

import os
import random
import signal
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn


class Net(nn.Module):
    """Everything that makes resuming hard: batch normalisation counts, and dropout draws."""

    def __init__(self, *, channels=1, dropout=0.3):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Conv2d(4, channels, 1),
        )

    def forward(self, image):
        """Return logits."""
        return self.layers(image)


class Calm(nn.Module):
    """What comes out of a sample depends on nothing but the sample."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 1, 1)])

    def forward(self, image):
        """Return logits."""
        first, last = self.layers
        return last(first(image).relu())


class Wide(Net):
    """So many weights that gradients are averaged in several buckets, which are not filled in the order of layers."""

    def __init__(self):
        super().__init__()
        self.mixing = nn.ModuleList(nn.Linear(64, 64 * 64) for _ in range(2))

    def forward(self, image):
        """Return logits."""
        flat = image.flatten(1)
        for layer in reversed(self.mixing):
            flat = torch.einsum("bij,bj->bi", layer(flat).view(-1, 64, 64), flat).tanh()
        return super().forward(flat.view_as(image))


class Stack(nn.Module):
    """Blocks that draw from three generators, and count in their batch normalisation."""

    def __init__(self, *, depth=2):
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.blocks = nn.ModuleList(Block() for _ in range(depth))
        self.last = nn.Conv2d(4, 1, 1)

    def forward(self, image):
        """Return logits."""
        features = self.first(image)
        for block in self.blocks:
            features = block(features, scale=0.5)
        return self.last(features)


class Block(nn.Module):
    """A residual block that is sometimes left out, as others draw it."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3))

    def forward(self, features, *, scale):
        """Return as many features."""
        noise = random.random() + np.random.rand()  # noqa: NPY002 - what some models do
        return features + scale * noise * self.layers(features)


class Pair(NamedTuple):
    """What a model may return, too."""

    fine: torch.Tensor
    coarse: torch.Tensor


class Twofold(Calm):
    """Returns two predictions, the second of which nobody is to learn from."""

    def forward(self, image):
        """Return logits."""
        fine = super().forward(image)
        return Pair(fine, fine.detach().round())


class Renormed(nn.Module):
    """Uses what it has gathered so far while it is trained."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Conv2d(1, 1, 1)
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, image):
        """Return logits."""
        if self.training:
            self.mean.mul_(0.9).add_(image.mean(), alpha=0.1)
        return self.scale(image - self.mean)


class Restless(Net):
    """Draws when it is only measured, too."""

    def forward(self, image):
        """Return logits with some noise."""
        return super().forward(image) + torch.rand(1)


class Frozen(Net):
    """Its batch normalisation is not to learn."""

    def __init__(self, **options):
        super().__init__(**options)
        self.layers[1].eval()


class Steep(Net):
    """Its loss is finite and its gradient is not."""

    def forward(self, image):
        """Return logits."""
        return Cliff.apply(super().forward(image))


class Cliff(torch.autograd.Function):
    """The identity, with a slope that is no number."""

    @staticmethod
    def forward(ctx, value):
        """Return *value*."""
        return value.clone()

    @staticmethod
    def backward(ctx, slope):
        """Return nothing that could be used."""
        return slope * float("nan")


class Images:
    """Noise around a bright corner, augmented with draws from three generators."""

    def __init__(self, *, length, channels, first):
        self._length = length
        self._channels = channels
        self._first = first

    def __len__(self):
        return self._length

    def __getitem__(self, index):
        fixed = torch.Generator().manual_seed(self._first + index)
        truth = torch.rand(self._channels, 8, 8, generator=fixed) > 0.6
        image = truth.any(0, keepdim=True).float() + 0.1 * torch.randn(1, 8, 8)
        image = image * np.random.uniform(0.8, 1.2) + random.gauss(0, 0.1)  # noqa: NPY002 - what users' transforms do
        if random.random() < 0.5:
            image, truth = image.flip(-1), truth.flip(-1)
        return image.float(), truth.float()


class Blobs:
    """Where the images come from."""

    def __init__(self, *, length=12, channels=1):
        self._facts = {"length": length, "channels": channels}

    def training(self):
        """Return what is trained on."""
        return Images(**self._facts, first=0)

    def validation(self):
        """Return a few others."""
        return Images(**{**self._facts, "length": 3}, first=1000)


class Poisoned(Blobs):
    """One image is not a number."""

    def training(self):
        """Return images of which the sixth is ill."""
        return Ill(**self._facts, first=0)


class Ill(Images):
    """As its name says."""

    def __getitem__(self, index):
        image, truth = super().__getitem__(index)
        return (image * float("nan") if index == 5 else image), truth


class Fatal(Blobs):
    """Kills the process that loads a certain image of the second epoch, once."""

    def __init__(self, *, mark, **options):
        super().__init__(**options)
        self._mark = mark

    def training(self):
        """Return images of which the sixth is deadly."""
        return Deadly(**self._facts, first=0, mark=Path(self._mark))


class Deadly(Images):
    """As its name says."""

    def __init__(self, *, mark, **facts):
        super().__init__(**facts)
        self._mark = mark
        self._loaded = 0

    def __getitem__(self, index):
        self._loaded += index == 5
        if self._loaded == 2 and not self._mark.exists():
            self._mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(index)


class Stuck(Blobs):
    """One image takes its time."""

    def __init__(self, *, seconds, where="training", **facts):
        super().__init__(**facts)
        self._seconds, self._where = seconds, where

    def training(self):
        """Return images of which the sixth may be slow."""
        return Slow(super().training(), self._seconds if self._where == "training" else 0, 5)

    def validation(self):
        """Return images of which the second may be."""
        return Slow(super().validation(), self._seconds if self._where == "validation" else 0, 1)


class Slow:
    """Waits before it gives one of *images*."""

    def __init__(self, images, seconds, index):
        self._images, self._seconds, self._index = images, seconds, index

    def __len__(self):
        return len(self._images)

    def __getitem__(self, index):
        if index == self._index:
            time.sleep(self._seconds)
        return self._images[index]


class Coarse(Blobs):
    """Targets of a dtype that is seldom met."""

    def __init__(self, *, dtype="int16", **facts):
        super().__init__(**facts)
        self._dtype = dtype

    def training(self):
        """Return images and small numbers."""
        return Counted(super().training(), getattr(torch, self._dtype))

    def validation(self):
        """Return others."""
        return Counted(super().validation(), getattr(torch, self._dtype))


class Counted:
    """As its name says."""

    def __init__(self, images, dtype):
        self._images, self._dtype = images, dtype

    def __len__(self):
        return len(self._images)

    def __getitem__(self, index):
        image, truth = self._images[index]
        return image, truth.to(self._dtype)


class Capricious:
    """A metric that is what it likes."""

    def update(self, prediction, target):
        """Look away."""

    def compute(self):
        """Return anything."""
        return {"mood": float(np.random.default_rng().random())}


class FinePart:
    """A metric that looks into what the model returned."""

    def __init__(self):
        self._seen = []

    def update(self, prediction, target):
        """Compare the finer of two."""
        self._seen.append(float((prediction.fine - target).abs().mean()))

    def compute(self):
        """Return the mean."""
        return {"fine": sum(self._seen) / len(self._seen)}


class Moody(Blobs):
    """Counts how often it was asked, and nobody saves that."""

    def training(self):
        """Return images that get brighter."""
        return Brightening(**self._facts, first=0)


class Brightening(Images):
    """As its name says."""

    asked = 0

    def __getitem__(self, index):
        image, truth = super().__getitem__(index)
        Brightening.asked += 1
        return image + Brightening.asked, truth


class Timely(Blobs):
    """Depends on the time of the day."""

    def training(self):
        """Return images of now."""
        return Now(**self._facts, first=0)


class Now(Images):
    """As its name says."""

    def __getitem__(self, index):
        image, truth = super().__getitem__(index)
        return image + time.time() % 1, truth


class Forgetful(Net):
    """Counts its steps in a place that is not saved."""

    steps = 0

    def forward(self, image):
        """Return logits that grow."""
        self.steps += self.training
        return super().forward(image) * (1 + self.steps)


class Amnesiac(torch.optim.SGD):
    """Keeps something beside its state."""

    steps = 0

    def step(self, closure=None):
        """Go further each time."""
        self.steps += 1
        for group in self.param_groups:
            for one in group["params"]:
                one.grad.mul_(self.steps)
        return super().step(closure)


class Hopeless(Blobs):
    """No image is a number."""

    def training(self):
        """Return them."""
        return [(image * float("nan"), truth) for image, truth in map(super().training().__getitem__, range(12))]


class Accuracy:
    """A metric of somebody else's."""

    def __init__(self):
        self._right, self._all = 0, 0

    def update(self, prediction, target):
        """Count."""
        self._right += int(((prediction > 0) == (target > 0.5)).sum())
        self._all += target.numel()

    def compute(self):
        """Divide."""
        return {"accuracy": self._right / self._all}


class NoNumber:
    """A metric that fails in silence."""

    def update(self, prediction, target):
        """Ignore it."""

    def compute(self):
        """Return no number."""
        return {"nothing": float("nan")}


class Wordy(NoNumber):
    """A metric that has something to say."""

    def compute(self):
        """Return words."""
        return {"mood": "good"}


class Bare(nn.Module):
    """Has nothing to learn."""

    def forward(self, image):
        """Return it."""
        return image


class Half:
    """A source of data without validation."""

    def training(self):
        """Return nothing."""


class Odd(Blobs):
    """Gives what is no pair, or has no length."""

    def __init__(self, *, what="triples"):
        super().__init__()
        self._what = what

    def training(self):
        """Return what is asked for."""
        found = {"triples": Triples(), "stream": iter([]), "nothing": [], "lists": [([[0.0]], [[1.0]])] * 8}
        return found.get(self._what, super().training())

    def validation(self):
        """Return nothing, if that is asked for."""
        return [] if self._what == "unmeasured" else super().validation()


class Triples:
    """Image, truth and a weight."""

    def __len__(self):
        return 8

    def __getitem__(self, index):
        return torch.zeros(1, 8, 8), torch.zeros(1, 8, 8), torch.ones(1)


def make_net():
    """Be no class."""


NOT_A_CLASS = 1
