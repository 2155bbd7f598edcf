"""Settings for all tests of tvae_core, and a fixture that several of them use."""

import pytest
import torch

from tvae_core import models
from tvae_core.data import Images
from tvae_core.runtime import seeded

# The tensors in these tests are tiny, so a second thread would only wait for the first. And with a
# fixed order of summation, results repeat bit for bit.
torch.set_num_threads(1)


@pytest.fixture
def tiny() -> tuple[models.VAE, Images]:
    with seeded(0):
        model = models.build("affine", (4, 6), dim_z=3, hidden=(8,))
        pixels = torch.randint(0, 256, (5, 1, 4, 6), dtype=torch.uint8)
    return model, Images(pixels, None, "noise")
