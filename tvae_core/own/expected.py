"""What you expect of the poses, in units: a pose map in degrees, pixels and per cent.

The parameters of these warps are the picture's own pose, not the grid's: its turn in radians,
counter-clockwise, its shift in halves of the image's sides, to the right and downwards, and the
logarithm of its scale. Each is one latent of u times a standard deviation. So with 30 degrees, a u
of 1 stands for a turn by 30 degrees.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from tvae_core.models import VAE
from tvae_core.warps import Size, Warp, similarity_basis

# The units of each warp, in the order of its latents; a shift has two.
UNITS = {
    "translation": ("shift",),
    "rotation": ("turn",),
    "similarity": ("turn", "shift", "scale"),
}
USUAL = {"turn": 25.0, "scale": 15.0}  # of what is not given, in degrees and per cent
USUAL_SHIFT = 0.1  # of the shorter side


def expect(
    model: VAE,
    warp: str,
    turn: float | None = None,
    shift: float | None = None,
    scale: float | None = None,
    fixed: bool = False,
) -> None:
    """Give a new model a pose map that starts from the expected standard deviations of poses.

    `turn` is in degrees, `shift` in pixels along x and along y, `scale` in per cent (of a scale's
    logarithm). What is not given is 25 degrees, a tenth of the shorter side, and 15 per cent. With
    `fixed` the map stays as it is; otherwise training may change it.

    Raises:
        ValueError: a warp or a unit for which this means nothing, or a negative number.
    """
    if warp not in UNITS:
        raise ValueError(
            f"expected poses need one of the warps {', '.join(UNITS)}, whose poses have no shear "
            f"and no bend; got {warp!r}"
        )
    given = {"turn": turn, "shift": shift, "scale": scale}
    stated = {name: value for name, value in given.items() if value is not None}
    if not stated:
        raise ValueError("a fixed pose map needs at least one of turn, shift and scale")
    for name, value in stated.items():
        if name not in UNITS[warp]:
            raise ValueError(f"the warp {warp!r} has no {name}; it has {', '.join(UNITS[warp])}")
        if not 0 <= value < math.inf:
            raise ValueError(f"{name} is a standard deviation, at least 0; got {value}")
    spread = {**USUAL, "shift": USUAL_SHIFT * min(model.size), **stated}
    height, width = model.size
    of_units = {
        "turn": [math.radians(spread["turn"])],
        "shift": [spread["shift"] * 2 / width, spread["shift"] * 2 / height],
        "scale": [spread["scale"] / 100],
    }
    values = [value for unit in UNITS[warp] for value in of_units[unit]]
    pose = model.decoder.pose
    model.decoder.warp = pose_warp(model.size, UNITS[warp]).to(pose.weight.device)
    with torch.no_grad():
        pose.weight.copy_(torch.tensor(values).diag())
    pose.requires_grad_(not fixed)


def pose_warp(size: Size, units: Sequence[str]) -> Warp:
    """A warp whose parameters are the picture's turn, shift and scale, or some of them."""
    n = sum(2 if unit == "shift" else 1 for unit in units)
    return Warp(similarity_basis(size), _to_theta(size, units), n)


def _to_theta(size: Size, units: Sequence[str]) -> Callable[[Tensor], Tensor]:
    height, width = size

    def to_theta(params: Float[Tensor, "*S P"]) -> Float[Tensor, "*S 4"]:
        """The coefficients of the grid, which is the inverse of the picture's map."""
        values = iter(params.unbind(-1))
        turn = scale = shift_x = shift_y = torch.zeros_like(params[..., 0])
        for unit in units:
            if unit == "turn":
                turn = next(values)
            elif unit == "shift":
                shift_x, shift_y = next(values), next(values)
            else:
                scale = next(values)
        a, b = turn.cos() / scale.exp(), turn.sin() / scale.exp()
        # Shifts are in halves of two sides, which differ in pixels.
        back_x = a * shift_x - b * shift_y * (height / width)
        back_y = b * shift_x * (width / height) + a * shift_y
        return torch.stack([a - 1, b, -back_x, -back_y], -1)

    return to_theta
