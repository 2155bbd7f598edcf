"""Faster training and evaluation, with the same numbers up to rounding.

Pass `accelerated_step` to `training.fit` as `accelerate`, and `Compiled` to `evaluation.nll`. Both
take seconds to start, so they pay off only in long runs.

Whether a machine can compile, or record a CUDA graph, shows only when it is tried: compilers lack
headers, caches cannot be written, and private names of torch change between its versions. So a
failed attempt is undone, a warning says what failed, and the plain function takes over.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
from torch import Tensor

from tvae_core import evaluation
from tvae_core.runtime import rng_state, set_rng_state
from tvae_core.training import Loss, Step


def accelerated_step(compute_loss: Loss, opt: torch.optim.Optimizer) -> Step:
    """A faster version of the training step for this loss, on the device of `opt`'s parameters.

    On CUDA it is `Recorded`. On a CPU the whole step, including the optimizer's update, is
    `Compiled` as one function, after a plain first step has created the optimizer's state. On other
    devices it is the plain step.
    """
    device = opt.param_groups[0]["params"][0].device.type
    step = plain_step(compute_loss, opt)
    if device == "cuda":
        return Recorded(step)
    if device != "cpu":
        return step
    _keep_freed_memory()

    def update() -> None:
        with _traceable(opt) if torch.compiler.is_compiling() else contextlib.nullcontext():
            opt.step()

    return Compiled(plain_step(compute_loss, opt, update), ready=lambda: bool(opt.state))


def plain_step(
    compute_loss: Loss, opt: torch.optim.Optimizer, update: Callable[[], object] | None = None
) -> Step:
    """The loop body of `training.fit` as a function; `update`, if given, replaces `opt.step`."""

    def step(x: Tensor) -> Tensor:
        loss, terms = compute_loss(x)
        opt.zero_grad()
        loss.backward()
        (update or opt.step)()
        return terms

    return step


@contextlib.contextmanager
def _traceable(opt: torch.optim.Optimizer) -> Iterator[None]:
    """A block in which the optimizer's step consists of tensor operations only.

    The learning rate is a tensor too, so compiled code reads its current value. Gradients are reset
    at the end, because those made while tracing are fake tensors.
    """
    before = [dict(group) for group in opt.param_groups]
    for group in opt.param_groups:
        group.update(capturable=True, foreach=True, fused=False)
    try:
        yield
    finally:
        for group, options in zip(opt.param_groups, before, strict=True):
            group.clear()
            group.update(options)
        opt.zero_grad()


def _keep_freed_memory() -> None:
    """Make the process keep the memory that a training step frees, so that the next step reuses it.

    glibc returns free memory at the top of the heap to the system, which must clear every page
    before the process can use it again. For a step with five draws that meant over a thousand pages
    and a fifth more time. glibc does this when the free memory exceeds twice the largest block
    freed so far. Blocks over 32 MiB do not count, so we allocate and free one just below that size.
    """
    torch.empty(2**25 - 2**16, dtype=torch.uint8)


_warned: set[str] = set()  # the attempts of this process that a warning was given for


def _warn_once(attempt: str, error: Exception) -> None:
    """Say in one line that an attempt failed and why, the first time that it fails."""
    if attempt in _warned:
        return
    _warned.add(attempt)
    reason = str(error).strip().partition("\n")[0][:200]
    warnings.warn(
        f"{attempt} failed ({type(error).__name__}: {reason}); continuing without it, which is "
        "slower but gives the same results",
        RuntimeWarning,
        stacklevel=2,
    )


def rows_at_once(device: torch.device) -> int:
    """How many (image, draw) pairs to decode at once: few enough for a CPU's caches, more on a GPU.

    A GPU needs many pairs to be busy. Each pair takes about ten arrays of the size of an image, and
    together they take about a tenth of the GPU's memory.
    """
    if device.type != "cuda":
        return evaluation.ROWS
    return int(torch.cuda.get_device_properties(device).total_memory) // 300_000


def timed(act: Callable[[], object]) -> float:
    """Seconds that a call takes, including its work on a CUDA GPU."""
    start = time.perf_counter()
    act()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


@contextlib.contextmanager
def fast_arithmetic() -> Iterator[None]:
    """A block in which a CPU computes faster, with the same results up to float32's rounding.

    Numbers below 1e-38 are set to zero. Normalised weights, and the gradients that they multiply,
    can get that small, and CPUs are slow with such numbers: with 16 draws and an affine warp a step
    took four times as long. Other threads inherit the setting from the thread that first uses them.

    Matrices are multiplied by oneDNN instead of MKL, which took 2.0, 1.1 and 1.0 times as long on
    three AMD processors. torch chooses oneDNN when asked for "medium" precision.
    That also permits bfloat16, which processors with fast bfloat16 would use; those keep MKL.
    """
    smallest = torch.tensor([torch.finfo(torch.float32).smallest_normal])
    was_set = bool((smallest / 2 == 0).item())
    # On a GPU "medium" would mean TF32.
    medium = not torch.cuda.is_available() and _medium_is_float32()
    with _precision("medium") if medium else contextlib.nullcontext():
        torch.set_flush_denormal(True)
        try:
            yield
        finally:
            torch.set_flush_denormal(was_set)


@contextlib.contextmanager
def _precision(name: str) -> Iterator[None]:
    """A block in which torch multiplies float32 matrices at this precision.

    Since torch 2.9 each backend also has a precision of its own. Setting the common one changes
    them, and reading it raises an error if one of them was set to something else.
    """
    modules = (torch.backends.cuda, torch.backends.mkldnn)
    backends = [m.matmul for m in modules if hasattr(getattr(m, "matmul", None), "fp32_precision")]
    own = [backend.fp32_precision for backend in backends]
    try:
        before = torch.get_float32_matmul_precision()
    except RuntimeError:
        before = "highest"  # torch's default; the backends' own precisions override it
    torch.set_float32_matmul_precision(name)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
        for backend, precision in zip(backends, own, strict=True):
            backend.fp32_precision = precision


@functools.cache
def _medium_is_float32() -> bool:
    """Whether this CPU keeps full float32 precision even when asked for "medium"."""
    x = torch.full((512, 512), 1 + 2**-12)  # rounds to 1 in bfloat16
    with _precision("medium"):
        return bool((x @ x / 512 > 1).all())


class Compiled:
    """A function of tensors, compiled for the shapes of its first call.

    Tracing records single operations, so a backward pass inside the function, its hooks, and any
    estimator or optimizer are included and fused with the rest. Captured tensors are read and
    updated on every call; Python numbers keep the values they had during tracing. Random draws are
    those that the function itself would make. The plain function handles calls with other shapes,
    all calls until `ready()` is true, and all calls if the first compiled one fails.
    """

    def __init__(
        self, function: Callable[..., Any], ready: Callable[[], bool] = lambda: True
    ) -> None:
        self.plain = function
        self.ready = ready
        self.shapes: list[torch.Size] | None = None
        self.fused: Callable[..., Any] | None = None
        self.failed = False

    def __call__(self, *tensors: Tensor) -> Any:
        shapes = [tensor.shape for tensor in tensors]
        if self.shapes is None:
            self.shapes = shapes
        if self.failed or shapes != self.shapes or not self.ready():
            return self.plain(*tensors)
        if self.fused is None:
            return self._first_call(*tensors)
        with torch.no_grad():  # the backward pass is one of the traced operations
            return self.fused(*tensors)

    def _first_call(self, *tensors: Tensor) -> Any:
        """Compile and call the function; if either fails, undo what was done and call `plain`."""
        random, before = rng_state(), {}
        try:
            traced = self._traced(*tensors)
            # Some faults show only when the code runs, perhaps with half of an update made.
            before = {x: x.clone() for x in _captured(traced)}
            fused = self._compiled(traced, *tensors)
            with torch.no_grad():
                result = fused(*tensors)
        except Exception as error:  # any kind: from the compiler, the file system or torch itself
            self.failed = True
            set_rng_state(random)
            with torch.no_grad():
                for x, value in before.items():
                    x.copy_(value)
            _warn_once("compiling", error)
            return self.plain(*tensors)
        self.fused = fused
        return result

    def _traced(self, *tensors: Tensor) -> torch.fx.GraphModule:
        # Imported here, so that only processes that compile wait for it.
        from torch.fx.experimental.proxy_tensor import make_fx

        # Fake tensors have shapes but no values: tracing draws nothing and changes nothing.
        trace = make_fx(self.plain, tracing_mode="fake", _allow_non_fake_inputs=True)
        with torch.compiler._compile_session_context():
            return trace(*tensors)

    @staticmethod
    def _compiled(traced: torch.fx.GraphModule, *tensors: Tensor) -> Callable[..., Any]:
        from torch._inductor import compile_fx
        from torch._inductor.decomposition import select_decomp_table
        from torch._inductor.lowering import make_fallback

        # torch's own kernel for sampling a grid is three times as fast as compiled code.
        sampler = torch.ops.aten.grid_sampler_2d.default
        make_fallback(sampler, warn=False, override_decomp=True)
        kernels = {op: code for op, code in select_decomp_table().items() if op is not sampler}
        kernels[torch.ops.aten.mm.default] = _thin_product
        kernels[torch.ops.aten.addmm.default] = _product_and_sum
        logging.getLogger("torch._inductor.ir").addFilter(_is_news)
        with torch.no_grad():
            fused = compile_fx.compile_fx(
                traced,
                list(tensors),
                decompositions=kernels,
                config_patches={
                    "cpp_wrapper": True,  # kernels are called from C++
                    "pattern_matcher": False,  # it would turn a product and a sum back into addmm
                },
            )
        return cast(Callable[..., Any], fused)


def _captured(traced: torch.fx.GraphModule) -> set[Tensor]:
    """The tensors that a traced function reads or updates besides its inputs."""
    names = {node.target for node in traced.graph.nodes if node.op == "get_attr"}
    found = (getattr(traced, str(name)) for name in names)
    return {x for x in found if isinstance(x, Tensor)}


def _thin_product(x: Tensor, y: Tensor) -> Tensor:
    """x @ y for shapes (M, K) and (K, N); if K is small, a sum that is fused with what follows.

    For the six numbers of a pose, a call to the library would take longer.
    """
    if len(y) > 8:
        return NotImplemented
    return cast(Tensor, sum(x[:, i : i + 1] * y[i] for i in range(len(y))))


def _product_and_sum(b: Tensor, x: Tensor, y: Tensor, **scales: float) -> Tensor:
    """b + x @ y, a linear layer, with a sum that is fused with what follows.

    The library would first copy b to every row of the result.
    """
    return NotImplemented if scales else x @ y + b


def _is_news(record: logging.LogRecord) -> bool:
    """False for the warning that the sampler is called through Python, which is intended."""
    return "missing a c-shim" not in record.msg


class Recorded:
    """A step recorded as a CUDA graph and replayed, so that launching its kernels costs nothing.

    Matrix products round their factors to TF32, which has 10 bits of fraction. Batches whose size
    differs from the first one's run without the graph, and all batches do if recording fails.
    """

    BEFORE = 3  # steps before recording, in which the optimizer creates its state

    def __init__(self, step: Step) -> None:
        self.step = step
        self.seen = 0
        self.x = torch.empty(0)  # input of the graph, with the shape of the first batch
        self.graph: torch.cuda.CUDAGraph | None = None
        self.failed = False

    def __call__(self, x: Tensor) -> Tensor:
        if not self.seen:
            self.x = x.clone()
        with _precision("high"):
            if self.failed or x.shape != self.x.shape:
                return self.step(x)
            self.seen += 1
            if self.seen <= self.BEFORE:
                return self._aside(x)
            self.x.copy_(x)
            if self.graph is None:
                self.graph = self._recorded()
            if self.graph is None:
                return self.step(x)
        self.graph.replay()
        return self.terms.clone()

    def _recorded(self) -> torch.cuda.CUDAGraph | None:
        """The graph of a step, which recording does not execute, or None if recording fails."""
        # Recording draws nothing on the GPU, but the step may also draw on the CPU.
        random, stream = torch.get_rng_state(), torch.cuda.current_stream()
        try:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                self.terms = self.step(self.x)
        except Exception as error:
            self.failed = True
            torch.cuda.set_stream(stream)  # torch may have stayed on the recording's own
            torch.set_rng_state(random)
            _warn_once("recording a CUDA graph", error)
            return None
        return graph

    def _aside(self, x: Tensor) -> Tensor:
        """The step on a separate stream, which CUDA requires before a step can be recorded."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            terms = self.step(x)
        torch.cuda.current_stream().wait_stream(stream)
        return terms
