"""Align galaxies: a real set, cut from one picture that scikit-image carries in its package.

Writes results/galaxies.json, and book/static/galaxies.png: galaxies before and after.

Usage: python -m tools.galaxies [--folder FOLDER]

The picture is the Hubble eXtreme Deep Field, by NASA and ESA, which is in the public domain. Each
galaxy that stands out gets a small picture of its own, in which all else is dark. The command of
the book then aligns them, in FOLDER, from which a stopped run resumes.

Nobody knows the true poses. What can be measured is whether the long axes of long galaxies lie in
one direction afterwards.
"""

import argparse
import csv
import hashlib
import io
import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor

from tvae_core import data, plots, poses, scores
from tvae_core.own import command, from_folder
from tvae_core.runtime import write_atomically

ROOT = Path(__file__).resolve().parents[1]
RECORD = ROOT / "results" / "galaxies.json"
PICTURE = ROOT / "book" / "static" / "galaxies.png"
SIDE = 16  # pixels of a galaxy's picture
FAINTEST = 0.1  # of white, after smoothing
SMALLEST = 30  # pixels that are brighter
# Galaxies are so small that a pose would not pay for its KL: enlarged, they have more pixels.
OPTIONS = ("--size", "32", "--fit", "stretch", "--epochs", "150")
LONG = 1.4  # the long axis over the short one
SHOWN = 16


def cut(picture: np.ndarray) -> list[np.ndarray]:
    """The galaxies of a gray picture in [0, 1], each (16, 16) in a picture of its own."""
    things, _ = ndimage.label(ndimage.gaussian_filter(picture, 1) > FAINTEST)
    ground = np.median(picture)
    found = []
    for number, box in enumerate(ndimage.find_objects(things), 1):
        low = [(side.start + side.stop - SIDE) // 2 for side in box]
        if max(side.stop - side.start for side in box) > SIDE - 4 or min(low) < 0:
            continue
        part = tuple(slice(start, start + SIDE) for start in low)
        own = things[part]
        if own.shape != (SIDE, SIDE) or (own == number).sum() < SMALLEST:
            continue
        near = ndimage.binary_dilation(own == number, iterations=2)
        found.append(np.where(near, picture[part], ground))
    return found


def write(folder: Path) -> str:
    """Cut the galaxies of scikit-image's picture into a folder, and return the picture's SHA256."""
    from skimage import data as bundled

    picture = bundled.hubble_deep_field()
    for i, galaxy in enumerate(cut(picture.mean(2) / 255), 1):
        buffer = io.BytesIO()
        Image.fromarray(np.rint(255 * galaxy).astype(np.uint8)).save(buffer, "png")
        write_atomically(folder / f"galaxy {i}.png", buffer.getvalue())
    return hashlib.sha256(picture.tobytes()).hexdigest()


def off_axis(images: data.Images, chosen: Tensor) -> Tensor:
    """By how many degrees each chosen image's long axis is off their most common direction."""
    doubled = torch.deg2rad(2 * poses.moments(images)["degrees"][chosen].double())
    off = doubled - scores.mean_angle(doubled)
    return torch.rad2deg(torch.atan2(off.sin(), off.cos())).abs() / 2


def off_centre(images: data.Images) -> Tensor:
    """By how many pixels each image's centre of light is off the mean centre."""
    found = poses.moments(images)
    centres = torch.stack([found["shift_x"], found["shift_y"]], -1)
    return (centres - centres.mean(0)).norm(dim=-1)


def long_ones(images: data.Images) -> Tensor:
    """Which images show something long, by the moments of their light."""
    from skimage.measure import inertia_tensor_eigvals

    spreads = [inertia_tensor_eigvals(x.numpy()) for x in images.x[:, 0].double()]
    return torch.tensor([(long / short) ** 0.5 > LONG for long, short in spreads])


def measure(folder: Path) -> dict:
    """Align the galaxies, and compare their long axes before and after."""
    sha256 = write(folder / "galaxies")
    out = folder / "aligned"
    command.main([str(folder / "galaxies"), "--out", str(out), *OPTIONS])
    before = from_folder(folder / "galaxies", 32, "stretch").images
    after = from_folder(out / "aligned", contrast="keep", invert=False).images
    chosen = long_ones(before)
    with (out / "poses.csv").open(newline="", encoding="utf-8") as file:
        nll = torch.tensor([float(row["nll"]) for row in csv.DictReader(file)])
    draw(before, after, chosen & (nll < nll.quantile(0.9)))
    record = json.loads((out / "record.json").read_bytes())
    return {
        "picture": "skimage.data.hubble_deep_field",
        "sha256": sha256,
        "n": len(before),
        "long": int(chosen.sum()),
        "options": [*OPTIONS],
        "problems": [problem["name"] for problem in record["problems"]],
        **{
            name: {
                "off_axis": off_axis(images, chosen).median().item(),
                "off_centre": off_centre(images).median().item(),
            }
            for name, images in {"before": before, "after": after}.items()
        },
        "versions": record["versions"],
    }


def draw(before: data.Images, after: data.Images, chosen: Tensor) -> None:
    """Draw some of the chosen galaxies before and after."""
    some = chosen.nonzero()[:, 0]
    some = some[:: max(1, len(some) // SHOWN)][:SHOWN]
    figure, axes = plt.subplots(2, SHOWN, figsize=(SHOWN / 2, 1))
    for of_row, images in zip(axes, (before, after), strict=True):
        for ax, x in zip(of_row, images.x[some], strict=True):
            plots.image(ax, x)
    figure.subplots_adjust(0, 0, 1, 1, 0.05, 0.05)
    figure.savefig(buffer := io.BytesIO(), dpi=160, metadata={"Software": None})
    write_atomically(PICTURE, buffer.getvalue())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, default=Path("_build/galaxies"))
    found = measure(parser.parse_args().folder)
    write_atomically(RECORD, (json.dumps(found, indent=1) + "\n").encode())
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
