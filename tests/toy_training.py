"""A toy training run: 20 images in 4 batches, a small affine model, 4 epochs."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tvae_core import bounds, data, models, training
from tvae_core.estimators import reparameterized
from tvae_core.runtime import seeded

SIZE, N, BATCHES = (4, 5), 20, 4
EPOCHS = 4


def toy_batches(binarization: str = "dynamic") -> data.Batches:
    """20 images in 4 batches; the last batch is smaller."""
    with seeded(0):
        images = data.from_tensor(torch.rand(N, 1, *SIZE))
    return data.Batches(images, 6, binarization)


def toy_model(**options) -> models.VAE:
    return models.build("affine", SIZE, **({"dim_z": 3, "dim_u": 2, "hidden": (6,)} | options))


class Disturbed:
    """Batches where `disturb` is applied to the n-th batch, counted from 0 through all epochs."""

    def __init__(self, n: int, disturb) -> None:
        self.batches, self.n, self.disturb = toy_batches(), n, disturb
        self.count = itertools.count()
        # A checkpoint notes these, and the same batches undisturbed have to fit it.
        self.batch_size, self.binarization = self.batches.batch_size, self.batches.binarization

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[torch.Tensor]:
        for x in self.batches:
            yield self.disturb(x) if next(self.count) == self.n else x


def kill(x: torch.Tensor) -> None:
    raise KeyboardInterrupt


def train(
    checkpoint: Path | None = None,
    *,
    batches: training.Epochs | None = None,
    seed: int = 0,
    epochs: int = EPOCHS,
    optimizer: training.MakeOptimizer = training.adadelta,
    warm_up: int = 0,
    accelerate=None,
    estimator=reparameterized(bounds.iwae),  # noqa: B008
    k: int = 2,
    after_epoch=None,
):
    """Parameters and history of a toy run."""
    with seeded(seed):
        model = toy_model()
        history = training.fit(
            model,
            toy_batches() if batches is None else batches,
            estimator,
            k=k,
            epochs=epochs,
            optimizer=optimizer,
            warm_up=warm_up,
            checkpoint=checkpoint,
            accelerate=accelerate,
            after_epoch=after_epoch,
        )
    return model.state_dict(), history


def assert_same_run(one, other) -> None:
    """The runs are equal bit for bit, except for the time they took."""
    for name, parameter in one[0].items():
        assert torch.equal(parameter, other[0][name]), name
    timeless = [[{**row, "seconds": 0} for row in history] for _, history in (one, other)]
    assert timeless[0] == timeless[1]


def assert_close_runs(one, other, **tolerances) -> None:
    """The runs are equal up to rounding, except for the time they took."""
    for name, parameter in one[0].items():
        torch.testing.assert_close(other[0][name], parameter, **tolerances)
    for row, want in zip(other[1], one[1], strict=True):
        assert {**row, "seconds": 0} == pytest.approx({**want, "seconds": 0}, rel=1e-4)
