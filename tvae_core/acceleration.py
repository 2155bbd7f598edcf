"""The training step, faster: the same numbers up to rounding, for runs that are long enough.

Code hashes leave this module out, as it says how a step is computed and not what.
"""

from __future__ import annotations

import contextlib
import functools
import shutil
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

Step = Callable[..., Tensor]


def accelerated(step: Step, opt: torch.optim.Optimizer, device: str) -> Step:
    """A faster version of `step(x, update=opt.step)`.

    On CUDA the step is `Recorded`. On a CPU with a C++ compiler the optimizer's update becomes one
    pass over the parameters, unless it is one already. Elsewhere it is the plain step.
    """
    if device == "cuda":
        return Recorded(step)
    compiler = shutil.which("g++") or shutil.which("clang++")
    if device != "cpu" or opt.defaults.get("fused") or not compiler:
        return step
    torch.compiler.reset()  # or after some runs in one process the compiler gives up

    @torch.compile
    def update() -> None:
        opt.step()

    return functools.partial(step, update=update)


@contextlib.contextmanager
def fast_arithmetic() -> Iterator[None]:
    """A block in which a CPU computes faster, with the same results up to float32's rounding.

    Numbers below 1e-38 count as zero. Normalised weights of importance samples reach down there, as
    do the gradients that they multiply, and a CPU is slow with such numbers: with 16 draws and an
    affine warp a step took four times as long. Further threads take the setting over from the one
    that first puts them to work.

    Matrices are multiplied by oneDNN in place of MKL, which on an AMD processor took twice as long.
    torch goes there if asked for "medium" precision. That allows bfloat16 too, and where a
    processor is quick with it, it would be used; such a processor is left with MKL.
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
