"""Training as several processes, which torchrun starts: `torchrun ... -m tvae_core.align ...`.

Each process trains on its share of the images, and torch averages the gradients of all of them, so
that one step is a step on a batch of the usual size. The weights of all processes stay equal.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from tvae_core.data import Images
from tvae_core.models import VAE


@contextlib.contextmanager
def together() -> Iterator[int]:
    """The number of this process, from 0. In this block, torchrun's processes train as one."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield 0
        return
    dist.init_process_group("gloo")
    if torch.cuda.is_available():
        torch.cuda.set_device(dist.get_rank() % torch.cuda.device_count())
    try:
        yield dist.get_rank()
    finally:
        dist.destroy_process_group()


def place() -> tuple[int, int]:
    """The number of this process, and how many train as one: (0, 1) outside of `together`."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def share(images: Images) -> Images:
    """The images of this process: the same number for each, so a few at the end may be left out."""
    rank, size = place()
    return images[rank : len(images) // size * size : size]


def shared(model: VAE) -> nn.Module:
    """What `training.fit` trains: the model, whose gradients are averaged over the processes."""
    return _Shared(model) if place()[1] > 1 else model


def of_first(value: Any) -> Any:
    """The value that the first process has, for all."""
    values = [value]
    if place()[1] > 1:
        dist.broadcast_object_list(values, 0)
    return values[0]


def checkpoint(path: Path | None) -> Path | None:
    """The file of this process. All start from that of the first, which is the last to be saved."""
    if path is None or place()[0] == 0:
        return path
    own = path.with_name(f"{path.stem}-{place()[0]}{path.suffix}")
    own.unlink(missing_ok=True)
    if path.exists():
        shutil.copyfile(path, own)
    return own


class _Draws(nn.Module):
    """A model's draws as a forward pass, which is what DistributedDataParallel follows."""

    def __init__(self, model: VAE) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, k: int) -> Any:
        return self.model.particles(x, k)


class _Shared(nn.Module):
    def __init__(self, model: VAE) -> None:
        super().__init__()
        self.model, self.split = model, model.split
        # In a tuple, because its parameters are the model's: they are not registered twice.
        self._draws = (DistributedDataParallel(_Draws(model)),)

    def particles(self, x: Tensor, k: int = 1) -> Any:
        return self._draws[0](x, k)
