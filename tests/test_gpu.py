"""Laws of a GPU: the recorded step, seeds side by side, and the NLL agree with a CPU.

Skipped on a machine without a GPU.
"""

import math
import statistics

import pytest
import torch
from torch import nn

from tvae_core import data, evaluation, experiments, load_pretrained, training
from tvae_core.experiments import PROFILES, runner, stacking
from tvae_core.experiments.acceleration import (
    Recorded,
    accelerated_step,
    plain_step,
    rows_at_once,
)
from tvae_core.experiments.configs import OPTIMIZERS, RUNS
from tvae_core.runtime import seeded

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


@pytest.fixture(scope="module")
def digits() -> data.Images:
    return data.load("mini", "train").to("cuda")


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_recorded_step_changes_parameters_like_the_plain_step(name):
    """Even when a batch is smaller, and while the learning rate changes."""
    with seeded(0):
        batches = [torch.randn(n, 3, device="cuda") for n in (6, 6, 6, 6, 6, 2, 6, 6, 2, 6)]
        start = nn.Linear(3, 2).state_dict()

    def trained(fast: bool) -> tuple[list[float], nn.Linear]:
        model = nn.Linear(3, 2).cuda()
        model.load_state_dict(start)
        opt, schedule = OPTIMIZERS[name](model, 2, 5)

        def evaluate(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            loss = model(x).square().mean()
            return loss, loss.detach()

        take = (accelerated_step if fast else plain_step)(evaluate, opt)
        losses = []
        for x in batches:
            losses.append(take(x))
            schedule.step()
        return torch.stack(losses).tolist(), model

    (plain, one), (recorded, other) = trained(False), trained(True)
    assert recorded == pytest.approx(plain, rel=5e-3)  # TF32 keeps three digits
    assert len(set(recorded)) == len(batches)
    torch.testing.assert_close(other.state_dict(), one.state_dict(), rtol=5e-3, atol=5e-3)
    assert torch.get_float32_matmul_precision() == "highest"


def test_a_recorded_step_draws_new_random_numbers_each_time():
    take = Recorded(lambda x: torch.randn(4, device="cuda") + x.sum())
    with seeded(0):
        draws = [take(torch.zeros(3, device="cuda")) for _ in range(8)]
    assert len(torch.stack(draws).unique()) == 4 * 8


@pytest.mark.parametrize("name", ["plain-iwae5", "tps-iwae5-modern", "affine-vae"])
def test_recorded_runs_end_at_the_same_bound_as_plain_runs(digits, name):
    """Within the spread over seeds, for a stack of models with the optimizer of its recipe."""
    config, images = RUNS[name], digits[:4_050]

    def bounds(fast: bool) -> list[float]:
        with seeded(0):
            alone = [runner.untrained(config, images, seed) for seed in range(4)]
            model = stacking.stack(alone)
            last = training.fit(
                model,
                runner.batches(config, images, 4),
                config.gradient,
                k=config.k,
                epochs=4,
                optimizer=config.make_optimizer,
                warm_up=config.warm_up or 0,
                accelerate=accelerated_step if fast else None,
            )[-1]
        return last["bound"]

    plain, recorded = bounds(False), bounds(True)
    error = math.sqrt((statistics.variance(plain) + statistics.variance(recorded)) / 4)
    assert statistics.mean(recorded) == pytest.approx(statistics.mean(plain), abs=4 * error)


def test_seeds_side_by_side_each_get_a_record(tmp_path, monkeypatch, digits):
    monkeypatch.setenv("TVAE_RUNS", str(tmp_path))
    runs = experiments.run_seeds("plain-vae", digits[:500], digits[:20], [0, 2], PROFILES["smoke"])
    assert [run.record.seed for run in runs] == [0, 2]
    assert all(run.record.machine.side_by_side == 2 for run in runs)
    assert runs[0].record.nll != runs[1].record.nll


@pytest.mark.parametrize("name", ["plain-iwae5", "tps-iwae5"])
def test_the_nll_agrees_with_the_nll_on_a_cpu(name):
    model = load_pretrained(name).model
    images = data.binarize_fixed(data.load("mini", "test")[:30])
    on_cpu = evaluation.nll(model.cpu(), images, 2_000)
    gpu = images.to("cuda")
    rows = rows_at_once(gpu.pixels.device)
    on_gpu = evaluation.nll(model.cuda(), gpu, 2_000, rows=rows)
    errors = (on_cpu.se.square() + on_gpu.se.square()).sum().sqrt() / len(images)
    assert on_gpu.nll.mean().item() == pytest.approx(on_cpu.nll.mean().item(), abs=4 * errors)
