"""The two styles that `make bench` times do the same work."""

import bench
import pytest
import torch

from tvae_core.experiments.configs import DECODERS
from tvae_core.runtime import seeded


@pytest.mark.parametrize("kind", DECODERS)
def test_tutorial_style_computes_the_same_log_weights_as_tvae_core(kind):
    model, twin, digits = bench.trained(kind)
    x = digits[:16].x
    with torch.no_grad():
        with seeded(0):
            ours = model.particles(x, 1).log_w
        with seeded(0):
            theirs = bench.log_weights(twin, x, 1)
    torch.testing.assert_close(theirs, ours, rtol=1e-5, atol=1e-3)
