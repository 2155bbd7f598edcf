"""Laws of stacks: models side by side compute and learn what each would alone."""

import itertools
from collections.abc import Iterator

import pytest
import torch
from test_models import images, make
from toy_training import SIZE, assert_close_runs, toy_batches

from tvae_core import bounds, data, models, training
from tvae_core.estimators import Estimator, analytic_kl, dreg, reparameterized
from tvae_core.experiments.configs import OPTIMIZERS
from tvae_core.experiments.stacking import stack, unstack, unstack_history
from tvae_core.runtime import seeded


def test_each_model_of_a_stack_maps_its_own_batch(subtests):
    x = torch.stack([images(4, (5, 8)) * (i + 1) / 3 for i in range(3)])
    for name in models.MODELS:
        with subtests.test(name):
            alone = [make(name, (5, 8), seed) for seed in range(3)]
            stacked = stack(alone)
            q = stacked.posterior(x)
            with seeded(0):
                particles = stacked.particles(x, 2)
            assert particles.log_w.shape == (2, 3, 4)
            assert particles.kl.shape == (3, 4, alone[0].dim_z + alone[0].dim_u)
            for i, model in enumerate(alone):
                torch.testing.assert_close(q.mean[i], model.posterior(x[i]).mean)
                expected = model.decoder(particles.latents[:, i]).log_prob(x[i])
                torch.testing.assert_close(particles.log_lik[:, i], expected, rtol=1e-5, atol=1e-4)
            assert not torch.allclose(q.mean[0], alone[1].posterior(x[0]).mean, atol=1e-2)


def test_a_stack_can_be_split_into_the_models_it_was_made_of(subtests):
    for name in models.MODELS:
        with subtests.test(name):
            alone = [make(name, (5, 8), seed) for seed in range(3)]
            before = [{k: v.clone() for k, v in model.state_dict().items()} for model in alone]
            stacked = stack(alone)
            with torch.no_grad():
                for parameter in stacked.parameters():
                    parameter.add_(1)  # changes the stack and leaves the models alone
            for model, again, state in zip(alone, unstack(stacked), before, strict=True):
                assert list(again.state_dict()) == list(state)
                for key, tensor in state.items():
                    assert torch.equal(model.state_dict()[key], tensor)
                    torch.testing.assert_close(again.state_dict()[key], tensor + 1)


class Repeated:
    """Stacked batches in which every model of the stack sees the same images."""

    def __init__(self, batches: data.Batches, times: int) -> None:
        self.batches, self.times = batches, times

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[torch.Tensor]:
        for x in self.batches:
            yield x.expand(self.times, *x.shape)


@pytest.mark.usefixtures("no_noise")
def test_a_stack_learns_what_its_models_would_alone(subtests):
    estimators = {"analytic_kl": analytic_kl, "dreg": dreg, "iwae": reparameterized(bounds.iwae)}
    names = ["plain", "affine", "tps"]
    for name, estimator, optimizer in itertools.product(names, estimators, OPTIMIZERS):
        with subtests.test(name, estimator=estimator, optimizer=optimizer):
            check_learning(name, estimators[estimator], OPTIMIZERS[optimizer])


def check_learning(name: str, estimator: Estimator, optimizer: training.MakeOptimizer) -> None:
    inits = []
    for seed in (3, 4):
        with seeded(seed):
            options = {} if name == "plain" else {"dim_u": 2}
            inits.append(models.build(name, SIZE, dim_z=3, hidden=(6,), **options))
    stacked = stack(inits)
    options = {"k": 2, "epochs": 2, "optimizer": optimizer}
    with seeded(0):
        rows = training.fit(stacked, Repeated(toy_batches("none"), 2), estimator, **options)
    alone = unstack(stacked)
    for model, trained, history in zip(inits, alone, unstack_history(rows), strict=True):
        with seeded(0):
            expected = training.fit(model, toy_batches("none"), estimator, **options)
        one, other = (model.state_dict(), expected), (trained.state_dict(), history)
        assert_close_runs(one, other, rtol=1e-3, atol=1e-5)


@pytest.fixture
def no_noise(monkeypatch) -> None:
    """Draws that are the mean: noise is the one thing that a stack and its models cannot share."""

    def rsample(q, shape):
        return q.loc + 0 * q.scale.expand(*shape, *q.scale.shape)

    monkeypatch.setattr(torch.distributions.Normal, "rsample", rsample)
