"""Laws of fast arithmetic, and of falling back to the plain step where nothing can be compiled."""

import pytest
import torch
from toy_training import assert_same_run, train

from tvae_core.experiments import acceleration
from tvae_core.experiments.acceleration import accelerated_step
from tvae_core.runtime import seeded


def test_without_a_compiler_a_fast_run_is_a_plain_one(monkeypatch):
    monkeypatch.setattr(acceleration.shutil, "which", lambda _: None)
    assert_same_run(train(accelerate=accelerated_step), train())


def test_subnormal_numbers_are_zero_within_a_block_and_come_back_after_it():
    smallest = torch.tensor([torch.finfo(torch.float32).smallest_normal])

    def flushed() -> bool:
        return (smallest / 2).item() == 0

    if not torch.set_flush_denormal(False):
        pytest.skip("this processor cannot")
    assert not flushed()
    with acceleration.fast_arithmetic():
        with acceleration.fast_arithmetic():
            assert flushed()
        assert flushed()
    assert not flushed()


def test_fast_products_keep_all_of_a_float32():
    with seeded(0):
        a, b = torch.randn(200, 784), torch.randn(784, 500)
    with acceleration.fast_arithmetic():
        product = a @ b
    error = (product.double() - a.double() @ b.double()).norm() / product.norm()
    assert error < 1e-6


@pytest.mark.parametrize(("whole", "precision"), [(True, "medium"), (False, "highest")])
def test_a_processor_that_would_round_is_asked_for_the_highest_precision(
    monkeypatch, whole, precision
):
    monkeypatch.setattr(acceleration, "_medium_is_float32", lambda: whole)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with acceleration.fast_arithmetic():
        assert torch.get_float32_matmul_precision() == precision
    assert torch.get_float32_matmul_precision() == "highest"


def test_rounded_products_are_noticed(monkeypatch):
    """As on a processor that is quick with bfloat16."""
    multiply = torch.Tensor.__matmul__

    def rounded(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return multiply(a.bfloat16().float(), b.bfloat16().float())

    measured = acceleration._medium_is_float32.__wrapped__
    monkeypatch.setattr(torch.Tensor, "__matmul__", rounded)
    assert not measured()
