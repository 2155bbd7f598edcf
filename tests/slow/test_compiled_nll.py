"""Laws of the compiled NLL: it agrees with the plain one, and only whole chunks are compiled."""

import pytest
import torch
from torch._inductor import compile_fx

from tvae_core import evaluation, models
from tvae_core.data import Images
from tvae_core.experiments.acceleration import Compiled
from tvae_core.runtime import seeded


def small(name: str, n: int) -> tuple[models.VAE, Images]:
    """A small model, and n random images of its size."""
    with seeded(0):
        model = models.build(name, size=(6, 6), hidden=(8,))
        pixels = torch.randint(0, 256, (n, 1, 6, 6), dtype=torch.uint8)
    return model, Images(pixels, None, "random")


@pytest.mark.parametrize("name", models.MODELS)
def test_compiled_chunks_give_the_plain_result_up_to_rounding(name):
    """A chunk is 250 draws of 4 images; a smaller rest is computed without compilation."""
    model, images = small(name, 6)

    def nll(fast: bool) -> evaluation.NLL:
        with seeded(1):
            return evaluation.nll(
                model, images, 600, (10, 300), accelerate=Compiled if fast else None
            )

    one, other = nll(fast=True), nll(fast=False)
    torch.testing.assert_close(one.nll_at, other.nll_at, rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(one.ess, other.ess, rtol=1e-4, atol=0)
    torch.testing.assert_close(one.se, other.se, rtol=1e-4, atol=0)


def test_only_whole_chunks_are_compiled(monkeypatch):
    shapes = []

    class Watched(Compiled):
        def __call__(self, *tensors):
            log_w = super().__call__(*tensors)
            shapes.append((*log_w.shape, tensors[0].shape == self.shapes[0]))
            return log_w

    monkeypatch.setattr(compile_fx, "compile_fx", lambda function, inputs, **_: function)
    model, images = small("affine", 5)
    evaluation.nll(model, images, 600, (10, 300), accelerate=Watched)
    assert shapes == [(250, 4, True)] * 2 + [(250, 1, False)] * 2
