"""Laws of fast arithmetic, and of the return to the plain step where the fast one fails."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch._inductor import compile_fx, lowering
from toy_training import assert_close_runs, assert_same_run, train

from tvae_core import training
from tvae_core.experiments import acceleration
from tvae_core.experiments.acceleration import Compiled, Recorded, accelerated_step, plain_step
from tvae_core.runtime import seeded


@pytest.fixture(autouse=True)
def no_warnings_so_far(monkeypatch):
    monkeypatch.setattr(acceleration, "_warned", set())


def fail(*_, **__):
    torch.rand(3)  # a failed attempt must not move the generator
    raise RuntimeError("out of luck\nand a page of compiler output")


def old_make_fallback(op, layout_constraint=None, warn=True):
    """As in versions of torch without `override_decomp`."""


def fails_in_the_middle(traced, inputs, **_):
    """Code that is compiled, but fails when it has made a part of its update."""

    def fused(*_):
        for x in acceleration._captured(traced):
            x.add_(1)
        fail()

    return fused


FAULTS = {
    "a compiler that fails": (compile_fx, "compile_fx", fail),
    "a torch without the context": (torch.compiler, "_compile_session_context", None),
    "a torch without the option": (lowering, "make_fallback", old_make_fallback),
    "code that fails in the middle of a step": (compile_fx, "compile_fx", fails_in_the_middle),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("optimizer", [training.adadelta, training.adam_one_cycle])
def test_a_run_that_cannot_be_compiled_equals_a_plain_run_after_one_warning(
    monkeypatch, fault, optimizer
):
    module, name, replacement = fault
    plain = train(optimizer=optimizer)
    if replacement is None:
        monkeypatch.delattr(module, name)
    else:
        monkeypatch.setattr(module, name, replacement)
    with pytest.warns(RuntimeWarning, match=r"^compiling failed \(\w+: .+\); continuing") as seen:
        runs = [train(accelerate=accelerated_step, optimizer=optimizer) for _ in range(2)]
    for run in runs:
        assert_same_run(run, plain)
    (warning,) = seen
    assert "\n" not in str(warning.message)


def test_a_failed_compilation_is_not_repeated(monkeypatch):
    attempts = []

    def counted(*_, **__):
        attempts.append(1)
        fail()

    monkeypatch.setattr(compile_fx, "compile_fx", counted)
    compiled = Compiled(lambda x: x.sin())
    x = torch.rand(3)
    with pytest.warns(RuntimeWarning, match="compiling failed"):
        results = [compiled(x) for _ in range(3)]
    assert len(attempts) == 1
    assert all(torch.equal(result, x.sin()) for result in results)


def test_an_interruption_is_not_taken_for_a_failure(monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(compile_fx, "compile_fx", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Compiled(lambda x: x.sin())(torch.rand(3))


def test_devices_other_than_cpu_and_cuda_take_the_plain_step():
    opt = torch.optim.SGD([torch.zeros(1, device="meta")])
    assert not isinstance(accelerated_step(lambda x: (x, x), opt), Compiled | Recorded)


@pytest.fixture
def fake_cuda(monkeypatch):
    """Streams that do nothing, and graphs whose recording fails, on whatever device."""
    current = ["the usual"]

    class Stream:
        def wait_stream(self, other) -> None: ...

    @contextlib.contextmanager
    def failing_graph(graph):
        current[0] = "the recording's"
        yield
        fail()

    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", contextlib.nullcontext)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.cuda, "set_stream", lambda _: current.__setitem__(0, "the usual"))
    monkeypatch.setattr(torch.cuda, "CUDAGraph", object)
    monkeypatch.setattr(torch.cuda, "graph", failing_graph)
    return current


def test_a_step_that_cannot_be_recorded_is_the_plain_step_after_one_warning(fake_cuda):
    """The recorded step itself is executed here, unlike on a GPU, so its update is skipped."""

    def accelerate(compute_loss, opt):
        def step(x):
            return compute_loss(x)[1] if recording() else plain(x)

        plain = plain_step(compute_loss, opt)
        return Recorded(step)

    def recording() -> bool:
        return fake_cuda[0] != "the usual"

    with pytest.warns(RuntimeWarning, match="^recording a CUDA graph failed .*luck") as seen:
        runs = [train(accelerate=accelerate) for _ in range(2)]
    for run in runs:
        assert_close_runs(run, train(), rtol=1e-5, atol=1e-6)
    assert len(seen) == 1
    assert not recording()


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


PRECISION = """
import torch
from toy_training import train
from tvae_core.experiments import acceleration

def settings():
    read = [lambda: torch.get_float32_matmul_precision()]
    for b in (torch.backends, torch.backends.cuda.matmul, torch.backends.mkldnn.matmul):
        read.append(lambda b=b: b.fp32_precision)
    found = []
    for one in read:
        try:
            found.append(one())
        except RuntimeError as error:
            found.append(str(error))
    return found

{setting}
before = settings()
with acceleration.fast_arithmetic():
    train()
with acceleration._precision("high"):
    assert torch.get_float32_matmul_precision() == "high"
assert settings() == before, (before, settings())
"""


@pytest.mark.skipif(
    not hasattr(torch.backends, "fp32_precision"), reason="this torch has only the common setting"
)
@pytest.mark.parametrize(
    "setting",
    [
        "",
        "torch.backends.cuda.matmul.fp32_precision = 'tf32'",
        "torch.backends.mkldnn.matmul.fp32_precision = 'bf16'",
        "torch.backends.fp32_precision = 'tf32'",
    ],
)
def test_a_precision_set_by_the_user_stays_set_and_training_runs(setting):
    """In a new process, because torch has no way back to its defaults."""
    tests = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", PRECISION.format(setting=setting)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{tests}:{tests.parent}"},
    )
    assert done.returncode == 0, done.stderr
