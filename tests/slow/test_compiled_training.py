"""Laws of the compiled training step: it gives the result of the plain step, with every estimator
and after a kill, tracing it has no side effects, and where it cannot be compiled it is plain."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch._inductor import compile_fx
from torch._inductor.utils import run_and_get_code
from toy_training import (
    BATCHES,
    EPOCHS,
    SIZE,
    Disturbed,
    assert_close_runs,
    assert_same_run,
    kill,
    toy_model,
    train,
)

from tvae_core import bounds, training
from tvae_core.estimators import (
    analytic_kl,
    doubly_reparameterized,
    dreg,
    paired,
    reparameterized,
    stl,
)
from tvae_core.experiments import acceleration
from tvae_core.experiments.acceleration import accelerated_step
from tvae_core.runtime import seeded


@pytest.mark.parametrize(
    "options", [{}, {"optimizer": training.adam_one_cycle, "estimator": dreg, "warm_up": 3}]
)
def test_a_compiled_run_gives_the_result_of_a_plain_run_up_to_rounding(options):
    assert_close_runs(
        train(**options), train(accelerate=accelerated_step, **options), rtol=1e-4, atol=1e-5
    )


ESTIMATORS = {
    "analytic_kl": analytic_kl,
    "reparameterized": reparameterized(bounds.iwae),
    "stl": stl,
    "dreg": dreg,
    "doubly_reparameterized": doubly_reparameterized(bounds.iwae),
    "paired": paired(reparameterized(bounds.elbo), reparameterized(bounds.iwae)),
}


@pytest.mark.parametrize("estimator", ESTIMATORS.values(), ids=ESTIMATORS)
def test_the_whole_step_is_compiled_for_every_estimator(monkeypatch, estimator):
    """Including hooks, the warm-up and the optimizer's update."""
    options = {"estimator": estimator, "warm_up": 3}
    plain, given, updates = train(**options), [], []

    def uncompiled(function, inputs, **_):
        given.append(function)
        return function

    def counted(opt, closure=None):
        updates.append(torch.compiler.is_compiling())
        return step(opt, closure)

    step = torch.optim.Adadelta.step
    monkeypatch.setattr(torch.optim.Adadelta, "step", counted)
    monkeypatch.setattr(compile_fx, "compile_fx", uncompiled)
    assert_close_runs(plain, train(accelerate=accelerated_step, **options), rtol=1e-5, atol=1e-6)
    assert [isinstance(function, torch.fx.GraphModule) for function in given] == [True]
    # The first step creates the optimizer's state, and the second is traced. The last batch of each
    # epoch is smaller and is never compiled.
    assert updates == [False, True] + [False] * EPOCHS


def test_tracing_a_step_draws_nothing_and_changes_nothing(monkeypatch):
    seen = []

    def look(function, inputs, **_):
        seen.append([x.clone() for x in everything()])
        return lambda x: torch.zeros(4)

    def everything():
        state = [x for kept in opt.state.values() for x in kept.values()]
        return [*model.parameters(), *state, *(g["lr"] for g in opt.param_groups), rng()]

    rng = torch.get_rng_state
    monkeypatch.setattr(compile_fx, "compile_fx", look)
    with seeded(0):
        model = toy_model()
        opt, _ = training.adam_one_cycle(model, EPOCHS, BATCHES)
        options = [dict(group) for group in opt.param_groups]

        def evaluate(x):
            return -model.particles(x, 1).log_w.sum(), torch.zeros(4)

        fast = accelerated_step(evaluate, opt)
        x = torch.rand(6, 1, *SIZE)
        fast(x)
        before = [x.clone() for x in everything()]
        fast(x)
    assert all(map(torch.equal, before, seen[0]))
    assert [dict(group) for group in opt.param_groups] == options
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(("terms", "called"), [(40, ["mm"]), (6, [])])
def test_a_compiled_layer_calls_the_library_for_nothing_but_a_large_product(terms, called):
    layer, x = torch.nn.Linear(terms, 30), torch.randn(5, terms)
    compiled = acceleration.Compiled(lambda x: layer(x).relu())
    result, code = run_and_get_code(compiled, x)
    torch.testing.assert_close(result, layer(x).relu())
    assert re.findall(r"aoti_torch_cpu_(\w+)_out\(", "".join(code)) == called


FAULTS = """
import resource, torch
from tvae_core.experiments import acceleration

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    tensors = [torch.ones(500_000) for _ in range(10)]
    del tensors
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

before = [faults() for _ in range(5)]
acceleration.accelerated_step(lambda x: (x, x), torch.optim.SGD([torch.zeros(1)]))
after = [faults() for _ in range(5)]
print(max(before[1:]), after[-1])
"""


def test_memory_freed_by_one_step_is_kept_for_the_next():
    """Each page that comes from the system costs a page fault and has to be cleared."""
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    before, after = map(int, done.stdout.split())
    if before < 1000:
        pytest.skip("this system keeps freed memory anyway")
    assert after < before / 10


def assert_falls_back(environ: dict[str, str]) -> str:
    """In a new process, a run equals a plain run after one warning; return its line."""
    tests = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", FALLS_BACK],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{tests}:{tests.parent}", **environ},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    said = [line for line in done.stderr.splitlines() if "compiling failed" in line]
    assert len(said) == 1, done.stderr[-2000:]
    assert len(done.stderr.splitlines()) <= 2, done.stderr[-2000:]  # the warning and its source
    return said[0]


FALLS_BACK = """
from toy_training import assert_same_run, train
from tvae_core.experiments.acceleration import accelerated_step
assert_same_run(train(accelerate=accelerated_step), train())
"""


@pytest.fixture
def environ(tmp_path) -> dict[str, str]:
    """An empty cache: code that was compiled before would need no compiler."""
    return {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}


COMPILERS = {
    "that fails": "exit 1",
    "without Python.h": "[ $1 = --version ] || { echo 'fatal error: Python.h' >&2; exit 1; }",
    "that makes no library": "exit 0",
}


@pytest.mark.parametrize("script", COMPILERS.values(), ids=COMPILERS)
def test_with_a_compiler_that_cannot_compile_the_step_is_the_plain_one(tmp_path, environ, script):
    compiler = tmp_path / "g++"
    compiler.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    compiler.chmod(0o755)
    assert_falls_back({**environ, "CXX": str(compiler)})


def test_without_g_plus_plus_the_step_is_the_plain_one(tmp_path, environ):
    """Also with a clang++, which inductor does not look for on Linux."""
    (tmp_path / "clang++").symlink_to("/bin/false")
    assert_falls_back({**environ, "PATH": str(tmp_path)})


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder nobody can write to")
def test_with_a_cache_that_cannot_be_written_the_step_is_the_plain_one():
    assert "/proc" in assert_falls_back({"TORCHINDUCTOR_CACHE_DIR": "/proc"})


def test_a_killed_compiled_run_resumes_to_the_result_of_an_uninterrupted_one(tmp_path):
    checkpoint = tmp_path / "checkpoint.pt"
    with pytest.raises(KeyboardInterrupt):
        train(checkpoint, batches=Disturbed(2 * BATCHES + 1, kill), accelerate=accelerated_step)
    assert_same_run(
        train(checkpoint, seed=99, accelerate=accelerated_step), train(accelerate=accelerated_step)
    )
