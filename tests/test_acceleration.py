"""Laws of fast arithmetic, and of the fallback to the plain step where nothing can be compiled."""

import pytest
import torch
from toy_training import assert_same_run, train

from tvae_core.experiments import acceleration
from tvae_core.experiments.acceleration import accelerated_step
from tvae_core.runtime import seeded


def test_without_a_compiler_an_accelerated_run_equals_a_plain_run(monkeypatch):
    monkeypatch.setattr(acceleration.shutil, "which", lambda _: None)
    assert_same_run(train(accelerate=accelerated_step), train())


def test_subnormal_numbers_are_flushed_to_zero_only_inside_the_block():
    smallest = torch.tensor([torch.finfo(torch.float32).smallest_normal])

    def flushed() -> bool:
        return (smallest / 2).item() == 0

    if not torch.set_flush_denormal(False):
        pytest.skip("this processor cannot flush subnormal numbers")
    assert not flushed()
    with acceleration.fast_arithmetic():
        with acceleration.fast_arithmetic():
            assert flushed()
        assert flushed()
    assert not flushed()


def test_fast_products_keep_float32_precision():
    with seeded(0):
        a, b = torch.randn(200, 784), torch.randn(784, 500)
    with acceleration.fast_arithmetic():
        product = a @ b
    error = (product.double() - a.double() @ b.double()).norm() / product.norm()
    assert error < 1e-6


@pytest.mark.parametrize(("whole", "precision"), [(True, "medium"), (False, "highest")])
def test_a_processor_that_would_round_is_set_to_the_highest_precision(
    monkeypatch, whole, precision
):
    monkeypatch.setattr(acceleration, "_medium_is_float32", lambda: whole)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with acceleration.fast_arithmetic():
        assert torch.get_float32_matmul_precision() == precision
    assert torch.get_float32_matmul_precision() == "highest"


def test_rounded_products_are_detected(monkeypatch):
    """A processor with fast bfloat16 rounds like this."""
    multiply = torch.Tensor.__matmul__

    def rounded(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return multiply(a.bfloat16().float(), b.bfloat16().float())

    measured = acceleration._medium_is_float32.__wrapped__
    monkeypatch.setattr(torch.Tensor, "__matmul__", rounded)
    assert not measured()
