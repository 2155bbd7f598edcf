"""Make tvae_core/mini/garments.npz, 1,000 garments of Fashion-MNIST that load without a network.

The first 50 of each class, of the training images and of the test images, in their order:

    python tools/make_garments.py
"""

import sys
from pathlib import Path

import numpy as np
import torch
from make_mini import store

from tvae_core import data

OF_EACH_CLASS = 50
TARGET = Path(__file__).resolve().parents[1] / "tvae_core" / "mini" / "garments.npz"
# Of all images of a split: see `Images.sha256`.
SHA256 = {
    "train": "0a9ee897a7afb6dd4c155e91561cbe3e6d188ca68f163d751bffa7c99147e70d",
    "test": "1f464896e3773fa498975dd234ac880af8e80a48f673c4e1358207b203a3932f",
}


def chosen(images: data.Images) -> data.Images:
    """The first images of each class, in the order of the data set."""
    labels = images.labels
    assert labels is not None
    rows = [(labels == c).nonzero()[:OF_EACH_CLASS, 0] for c in labels.unique()]
    return images[torch.cat(rows).sort().values]


def main() -> None:
    parts = []
    for split, expected in SHA256.items():
        images = data.load("fashion-mnist", split)
        if images.sha256() != expected:
            sys.exit(f"the {split} images are not those of Fashion-MNIST")
        parts.append(chosen(images))
    images = np.concatenate([part.pixels[:, 0].numpy() for part in parts])
    store(TARGET, images, np.concatenate([part.labels.byte().numpy() for part in parts]))


if __name__ == "__main__":
    main()
