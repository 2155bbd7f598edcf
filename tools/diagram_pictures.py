"""Draw the small pictures of the diagrams with the book's trained models.

    python tools/diagram_pictures.py    # writes tools/diagram_pictures.json

An image is 28 strings of 28 digits, its gray values in steps of 1/9; a grid is a list of lines of
points, in pixels. tools/diagrams.py draws from this file alone, so it needs no model and writes the
same bytes on every machine.
"""

import json
from pathlib import Path

import torch
from torch import Tensor

from tvae_core import data, warps
from tvae_core.experiments import results
from tvae_core.runtime import write_atomically

FILE = Path(__file__).with_suffix(".json")
# A leaning digit shows best what the canonical image is; the 5 is the one of chapter 2.
LEANING, FIVE = 33, 16


def digits(image: Tensor) -> list[str]:
    """The gray values of an image (1, 28, 28), one digit a pixel."""
    return ["".join(map(str, row)) for row in (image[0] * 9).round().int().tolist()]


def lines(grid: Tensor) -> list[list[list[float]]]:
    """Every ninth row and column of a grid (28, 28, 2), as points (x, y) in pixels."""
    pixels = (grid + 1) * 14
    rows = [*pixels[::9], *pixels.transpose(0, 1)[::9]]
    return [[[round(float(v), 1) for v in point] for point in row[::3]] for row in rows]


@torch.no_grad()
def pictures() -> dict[str, list]:
    """All pictures, by name."""
    mini = data.load("mini", "test")
    x = mini[LEANING : LEANING + 1].x
    made = {
        "x": digits(x[0]),
        "binary": digits(data.binarize_fixed(mini)[LEANING : LEANING + 1].x[0]),
    }
    for kind in ("plain", "affine", "tps"):
        model = results.load_pretrained(f"{kind}-vae").model.cpu()
        latents = model.posterior(x).mean
        made[f"{kind} output"] = digits(model.decoder(latents).mean[0])
        if kind != "plain":
            made[f"{kind} canonical"] = digits(model.canonical(latents)[0])
            made[f"{kind} grid"] = lines(model.grid(latents)[0])

    model = results.load_pretrained("affine-straight-iwae5-modern").model.cpu()
    u = model.split(model.posterior(x).mean)[1]
    made["straightened"] = digits(model.encoder.straightened(x, u)[0])
    five, warp = mini[FIVE : FIVE + 1].x, warps.make_warp("rotation", (28, 28))
    theta = torch.tensor([[0.4]])  # not the shift whose effect chapter 2 asks for
    made["five"] = digits(five[0])
    made["five grid"] = lines(warp.grid(theta)[0])
    made["five output"] = digits(warp(five, theta)[0])
    return made


if __name__ == "__main__":
    write_atomically(FILE, (json.dumps(pictures(), separators=(",", ":")) + "\n").encode())
