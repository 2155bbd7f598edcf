"""What a trained model says of each image: its pose, its NLL, its cluster; and aligned images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from scipy.cluster.vq import kmeans2
from torch import Tensor

from tvae_core import poses
from tvae_core.data import Images
from tvae_core.experiments.runner import spread
from tvae_core.models import VAE
from tvae_core.poses import Aligned
from tvae_core.runtime import seeded

REFERENCE = 500  # images, evenly spaced, whose mean pose is that of the aligned images
BLOCK = 1_000  # images in memory as floats
NLL_SAMPLES = 20  # draws: enough to rank images by, not to compare models


@dataclass(frozen=True)
class Findings:
    """One row per image. `poses` has the columns of `poses.table`, with "nll".

    `z` is the mean of q(z | x), and `cluster` the number of the cluster of z, from 0.
    """

    poses: poses.Poses
    z: Float[Tensor, "N Z"]
    cluster: Int64[Tensor, "N"]

    def outliers(self, n: int) -> list[int]:
        """The n images with the highest NLL, worst first: what the model describes least well."""
        return self.poses["nll"].argsort(descending=True)[:n].tolist()


def reference_of(images: Images) -> Images:
    """The images that the mean pose is taken of: at most 500, evenly spaced."""
    return spread(images, REFERENCE)


@torch.no_grad()
def examine(model: VAE, images: Images, reference: Images, clusters: int = 1) -> Findings:
    """The pose, the NLL and the cluster of every image.

    Clusters are those of k-means on z, which holds what is drawn and not where, numbered by their
    size, the largest first.
    """
    tables, z = [], []
    for index, part in enumerate(blocks(images)):
        with seeded(index):
            tables.append(poses.table(model, part, reference, nll_samples=NLL_SAMPLES).columns)
        z.append(model.split(model.posterior(part.x).mean)[0].cpu())
    columns = {name: torch.cat([table[name] for table in tables]) for name in tables[0]}
    joined = torch.cat(z)
    return Findings(poses.Poses(columns), joined, _clusters(joined, clusters))


def aligned(model: VAE, images: Images, reference: Images) -> Iterator[Aligned]:
    """The images in the mean pose of the reference, a block of them at a time."""
    for part in blocks(images):
        yield Aligned(*(x.cpu() for x in poses.align(model, part, reference)))


def rebuilt(model: VAE, images: Images) -> Float[Tensor, "N C H W"]:
    """What the model draws for each image, in the image's own pose."""
    with torch.no_grad():
        parts = [model.decoder(model.posterior(x).mean).mean for x in images.x.split(BLOCK)]
    return torch.cat(parts).cpu()


def blocks(images: Images) -> Iterator[Images]:
    """The images, at most 1,000 at a time."""
    for start in range(0, len(images), BLOCK):
        yield images[start : start + BLOCK]


def _clusters(z: Float[Tensor, "N Z"], k: int) -> Int64[Tensor, "N"]:
    if k == 1:
        return torch.zeros(len(z), dtype=torch.long)
    if len(z) <= k:
        return torch.arange(len(z))
    found = kmeans2(z.double().numpy(), k, minit="++", seed=0)[1]
    order = np.argsort(-np.bincount(found, minlength=k), kind="stable")
    return torch.from_numpy(np.argsort(order)[found]).long()
