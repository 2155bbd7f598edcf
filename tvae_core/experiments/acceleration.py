"""Faster training and evaluation, with the same numbers up to rounding.

`training.fit` takes `accelerated_step` as its `accelerate`; `evaluation.nll` takes `Compiled`.
Both take seconds to start, so they pay off only in long runs.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import shutil
from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
from torch import Tensor

from tvae_core.training import Loss, Step


def accelerated_step(evaluate: Loss, opt: torch.optim.Optimizer) -> Step:
    """A faster version of the training step on this loss, for the device that `opt` works on.

    On CUDA it is `Recorded`. On a CPU with a C++ compiler the whole step, including the optimizer's
    update, is `Compiled` as one function, once a first step has created the optimizer's state.
    Elsewhere it is the plain step.
    """
    device = opt.param_groups[0]["params"][0].device.type
    step = plain_step(evaluate, opt)
    if device == "cuda":
        return Recorded(step)
    if not can_compile(device):
        return step
    _keep_freed_memory()

    def update() -> None:
        with _traceable(opt) if torch.compiler.is_compiling() else contextlib.nullcontext():
            opt.step()

    return Compiled(plain_step(evaluate, opt, update), ready=lambda: bool(opt.state))


def plain_step(
    evaluate: Loss, opt: torch.optim.Optimizer, update: Callable[[], object] | None = None
) -> Step:
    """The body of the loop in `training.fit` as a function; `update` replaces `opt.step`."""

    def step(x: Tensor) -> Tensor:
        loss, terms = evaluate(x)
        opt.zero_grad()
        loss.backward()
        (update or opt.step)()
        return terms

    return step


@contextlib.contextmanager
def _traceable(opt: torch.optim.Optimizer) -> Iterator[None]:
    """A block in which the optimizer's step consists of operations on tensors.

    Its learning rate is one of them, and so is read anew by what is traced. Gradients, which are
    none while tracing, are gone after the block.
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
    """Have the process keep the memory that a step frees for the next one.

    GNU's C library gives free memory at the end of the heap back to the system, which clears each
    page of it anew when it is wanted again. A step with five draws met a thousand pages and more,
    and took a fifth longer. The library does so from twice the size of the largest block on that
    it has seen freed, where blocks of 32 MiB are the largest that count.
    """
    torch.empty(2**25 - 2**16, dtype=torch.uint8)


def can_compile(device: str) -> bool:
    """Whether functions can be `Compiled` here: on a CPU with a C++ compiler."""
    return device == "cpu" and bool(shutil.which("g++") or shutil.which("clang++"))


@contextlib.contextmanager
def fast_arithmetic() -> Iterator[None]:
    """A block in which a CPU computes faster, with the same results up to float32's rounding.

    Numbers below 1e-38 count as zero. Normalised weights of importance samples reach down there, as
    do the gradients that they multiply, and a CPU is slow with such numbers: with 16 draws and an
    affine warp a step took four times as long. Further threads take the setting over from the one
    that first puts them to work.

    Matrices are multiplied by oneDNN in place of MKL, which on three AMD processors took twice as
    long, a tenth longer and as long. torch goes there if asked for "medium" precision. That
    allows bfloat16 too, and where a processor is quick with it, it would be used; such a processor
    is left with MKL.
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
    """A block in which torch multiplies float32 matrices with this precision."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(name)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@functools.cache
def _medium_is_float32() -> bool:
    """Whether this CPU keeps all of a float32 also with "medium" precision."""
    x = torch.full((512, 512), 1 + 2**-12)  # 1 with fewer bits
    with _precision("medium"):
        return bool((x @ x / 512 > 1).all())


class Compiled:
    """A function of tensors, compiled for those of the shapes that it meets first.

    It is traced down to its single operations, so that a backward pass within it, hooks, estimators
    and optimizers of any kind are followed, and fused with all else. Tensors that it reads or
    changes elsewhere are so anew each time; numbers stay as the tracing found them. It draws what
    the function itself would. Tensors of other shapes are computed with plainly, and so are all as
    long as it is not `ready`.
    """

    def __init__(
        self, function: Callable[..., Any], ready: Callable[[], bool] = lambda: True
    ) -> None:
        self.plain = function
        self.ready = ready
        self.shapes: list[torch.Size] | None = None
        self.fused: Callable[..., Any] | None = None

    def __call__(self, *tensors: Tensor) -> Any:
        shapes = [tensor.shape for tensor in tensors]
        if self.shapes is None:
            self.shapes = shapes
        if shapes != self.shapes or not self.ready():
            return self.plain(*tensors)
        if self.fused is None:
            self.fused = self._compiled(*tensors)
        with torch.no_grad():  # a backward pass is among the operations
            return self.fused(*tensors)

    def _compiled(self, *tensors: Tensor) -> Callable[..., Any]:
        # Here, as a process that compiles nothing need not wait for the compiler to be imported.
        from torch._inductor import compile_fx
        from torch._inductor.decomposition import select_decomp_table
        from torch._inductor.lowering import make_fallback
        from torch.fx.experimental.proxy_tensor import make_fx

        # Fake tensors have shapes and no values: tracing draws nothing and changes nothing.
        trace = make_fx(self.plain, tracing_mode="fake", _allow_non_fake_inputs=True)
        with torch.compiler._compile_session_context():
            traced = trace(*tensors)
        # torch's own kernel samples a grid three times as fast as what would be compiled for it.
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
                    "pattern_matcher": False,  # it would turn a product and a sum back to addmm
                },
            )
        return cast(Callable[..., Any], fused)


def _thin_product(x: Tensor, y: Tensor) -> Tensor:
    """x @ y, (M, K) and (K, N), as a sum that is fused with what follows, where K is small.

    For the six numbers of a pose a call of the library takes longer.
    """
    if len(y) > 8:
        return NotImplemented
    return cast(Tensor, sum(x[:, i : i + 1] * y[i] for i in range(len(y))))


def _product_and_sum(b: Tensor, x: Tensor, y: Tensor, **scales: float) -> Tensor:
    """b + x @ y, a linear layer, of which the sum is fused with what follows.

    The library would first copy b to each row of the result.
    """
    return NotImplemented if scales else x @ y + b


def _is_news(record: logging.LogRecord) -> bool:
    """Whether it tells more than that the sampler is called by way of Python, as it has to be."""
    return "missing a c-shim" not in record.msg


class Recorded:
    """A step recorded as a CUDA graph and replayed, so that launching its kernels costs nothing.

    Its matrix products round their factors to TF32, with 10 bits of fraction. Batches of another
    size than the first run plainly.
    """

    BEFORE = 3  # steps before the recording, in which the optimizer makes its state

    def __init__(self, step: Step) -> None:
        self.step = step
        self.seen = 0
        self.x = torch.empty(0)  # of the batches that are recorded, once there has been one
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, x: Tensor) -> Tensor:
        if not self.seen:
            self.x = x.clone()
        with _precision("high"):
            if x.shape != self.x.shape:
                return self.step(x)
            self.seen += 1
            if self.seen <= self.BEFORE:
                return self._aside(x)
            self.x.copy_(x)
            if self.graph is None:
                self.graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(self.graph):
                    self.terms = self.step(self.x)
        self.graph.replay()
        return self.terms.clone()

    def _aside(self, x: Tensor) -> Tensor:
        """The step on a stream of its own, as recording demands of what it is to reuse."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            terms = self.step(x)
        torch.cuda.current_stream().wait_stream(stream)
        return terms
