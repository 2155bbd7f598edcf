"""Spatial transformations of images: grid = identity + sum_p theta_p * field_p.

All coordinates follow `torch.nn.functional.grid_sample(align_corners=False)`: (x, y) with x to the
right and y downwards, where -1 and 1 are the *outer edges* of the border pixels, so that pixel j
of W has its centre at (2 j + 1) / W - 1. Shifts, affine matrices and control points are in these
units too. Angles and a spline's distances are those between pixels, whatever the image's shape.

For each pixel of the output, a grid gives **the point of the input to look at** (backward warping,
Jaderberg et al. 2015, section 3). The picture therefore moves opposite to the grid: looking one
pixel to the right moves the picture one pixel to the left.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from tvae_core.checks import check_known, checked

Size = tuple[int, int]
PADDINGS = ("zeros", "border", "reflection")
LEAST_DET = 0.05  # an inverse grid enlarges areas at most 20 times


def pixel_centres(size: Size) -> Float[Tensor, "H W 2"]:
    """(x, y) of every pixel's centre, in float64: the identity grid."""
    height, width = size
    x = (2 * torch.arange(width, dtype=torch.float64) + 1) / width - 1
    y = (2 * torch.arange(height, dtype=torch.float64) + 1) / height - 1
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)


def _for_each_axis(functions: Float[Tensor, "m H W"]) -> Float[Tensor, "P H W 2"]:
    """P = 2 m displacement fields: every function along x, then every function along y."""
    nothing = torch.zeros_like(functions)
    along_x = torch.stack([functions, nothing], -1)
    along_y = torch.stack([nothing, functions], -1)
    return torch.cat([along_x, along_y])


def translation_basis(size: Size) -> Float[Tensor, "2 H W 2"]:
    """theta = (t_x, t_y) shifts the whole grid."""
    return _for_each_axis(torch.ones(1, *size, dtype=torch.float64))


def similarity_basis(size: Size) -> Float[Tensor, "4 H W 2"]:
    """theta = (a, b, t_x, t_y): (x, y) -> (x + a x - b y + t_x, y + b x + a y + t_y).

    Rotation by phi and scaling by s correspond to a = s cos(phi) - 1, b = s sin(phi). To turn
    pixels, b y is multiplied by H / W, and b x by W / H.
    """
    height, width = size
    x, y = pixel_centres(size).unbind(-1)
    scale = torch.stack([x, y], -1)
    turn = torch.stack([-y * (height / width), x * (width / height)], -1)
    return torch.cat([torch.stack([scale, turn]), translation_basis(size)])


def affine_basis(size: Size) -> Float[Tensor, "6 H W 2"]:
    """theta is the 2x3 matrix of `affine_grid` minus the identity, row by row."""
    x, y = pixel_centres(size).unbind(-1)
    return _for_each_axis(torch.stack([x, y, torch.ones_like(x)]))


def control_points(n: int) -> Float[Tensor, "n*n 2"]:
    """n x n control points (x, y) on the square [-1, 1]^2, row by row from the top left."""
    line = torch.linspace(-1, 1, n, dtype=torch.float64)
    return torch.stack(torch.meshgrid(line, line, indexing="xy"), -1).reshape(-1, 2)


def tps_kernel(
    points: Float[Tensor, "*S 2"], centres: Float[Tensor, "n 2"]
) -> Float[Tensor, "*S n"]:
    """U(r) = r^2 log r^2 of all distances r, with U(0) = 0 (Bookstein 1989, eq. 1)."""
    squared = (points.unsqueeze(-2) - centres).square().sum(-1)
    return torch.xlogy(squared, squared)


def tps_basis(size: Size, n: int = 3) -> Float[Tensor, "2*n*n H W 2"]:
    """Thin-plate spline: theta is the displacements of n x n control points, all x, then all y.

    The spline through given displacements d solves [[K, P], [P', 0]] (w, a) = (d, 0) with
    K = U(control points), P = (1, x, y) (Bookstein 1989, eq. 3). The solution is linear in d, so
    it is computed once, here, and every later warp is a matrix product. The distances in U are
    those in pixels, up to a factor, on which the spline does not depend.
    """
    if n < 2:
        raise ValueError(f"a thin-plate spline needs at least 2 x 2 control points, got n={n}")
    centres = control_points(n)
    sides = torch.tensor([size[1], size[0]], dtype=torch.float64) / max(size)

    def rows(points: Tensor) -> Tensor:
        ones = torch.ones_like(points[..., :1])
        return torch.cat([tps_kernel(points * sides, centres * sides), ones, points], -1)

    system = rows(centres)
    polynomial = system[:, -3:]
    bottom = torch.cat([polynomial.T, torch.zeros(3, 3, dtype=torch.float64)], 1)
    influence = torch.linalg.inv(torch.cat([system, bottom]))[:, : n * n]
    at_pixels = rows(pixel_centres(size)) @ influence
    return _for_each_axis(at_pixels.movedim(-1, 0))


def sample(
    images: Float[Tensor, "*S C H W"], grid: Float[Tensor, "*S H W 2"], padding: str = "zeros"
) -> Float[Tensor, "*S C H W"]:
    """Bilinear sampling of `images` at `grid` (Jaderberg et al. 2015, eq. 5).

    Leading axes broadcast, so one image can be sampled at many grids. `padding` sets the values
    outside the image: "zeros", "border" (repeats the edge pixels) or "reflection".
    """
    check_known("padding", padding, PADDINGS)
    leading = torch.broadcast_shapes(images.shape[:-3], grid.shape[:-3])
    images = images.expand(*leading, *images.shape[-3:])
    grid = grid.expand(*leading, *grid.shape[-3:])
    flat = F.grid_sample(
        images.reshape(-1, *images.shape[-3:]),
        grid.reshape(-1, *grid.shape[-3:]),
        padding_mode=padding,
        align_corners=False,
    )
    return flat.view(*leading, *flat.shape[-3:])


class Warp(nn.Module):
    """A family of grids, `grid = identity + sum_p theta_p * basis_p`; theta = 0 is the identity.

    `to_theta` maps the `n_params` parameters of the warp to the coefficients theta; without it the
    parameters are the coefficients.
    """

    identity: Tensor
    basis: Tensor
    affine: Tensor
    to_affine: Tensor
    bend: Tensor

    def __init__(
        self,
        basis: Float[Tensor, "P H W 2"],
        to_theta: Callable[[Tensor], Tensor] | None = None,
        n_params: int | None = None,
    ) -> None:
        super().__init__()
        self.size: Size = (basis.shape[1], basis.shape[2])
        self.n_params = len(basis) if n_params is None else n_params
        self.to_theta = to_theta
        # Every field is an affine map of the plane plus a bend; for affine families the bend is 0.
        flat, affine = basis.double().flatten(1), affine_basis(self.size)
        to_affine = torch.linalg.lstsq(affine.flatten(1).T, flat.T).solution.T
        bend = (flat - to_affine @ affine.flatten(1)).view(basis.shape)
        self.bends = bool(bend.abs().amax() > 1e-9) if len(basis) else False
        constants = {
            "identity": pixel_centres(self.size),
            "basis": basis,
            "affine": affine,
            "to_affine": to_affine,
            "bend": bend,
        }
        for name, tensor in constants.items():
            # Constants of the architecture, so they do not belong in state_dict.
            self.register_buffer(name, tensor.to(torch.get_default_dtype()), persistent=False)

    @checked
    def grid(self, params: Float[Tensor, "*S P"]) -> Float[Tensor, "*S H W 2"]:
        """The point of the input that each output pixel looks at."""
        return self.identity + self._field(self.theta(params), self.basis)

    @checked
    def inverse_grid(
        self, params: Float[Tensor, "*S P"], refine: int = 0
    ) -> Float[Tensor, "*S H W 2"]:
        """The grid that undoes `grid`: sampling at one and then at the other restores the image.

        With the matrix A and the shift t of the affine part, grid(p) = A p + t + bend(p). So the
        inverse of a point c is the solution of p = A^-1 (c - t - bend(p)). For affine families
        that is exact. For a spline the bend is taken at c instead, and each step of `refine` takes
        it at the p found so far, a fixed-point iteration that converges for small bends. Where A is
        almost singular, its determinant is kept away from 0 and the result is not an inverse.
        """
        theta = self.theta(params)
        (a, b, t_x), (c, d, t_y) = (
            row.unbind(-1) for row in (theta @ self.to_affine).unflatten(-1, (2, 3)).unbind(-2)
        )
        a, d = a + 1, d + 1
        det = a * d - b * c
        det = torch.where(det < 0, det.clamp(max=-LEAST_DET), det.clamp(min=LEAST_DET))
        a, b, c, d = d / det, -b / det, -c / det, a / det  # A^-1
        inverse = [a - 1, b, -(a * t_x + b * t_y), c, d - 1, -(c * t_x + d * t_y)]
        exact = self.identity + self._field(torch.stack(inverse, -1), self.affine)
        if not self.bends:
            return exact
        bend = self._field(theta, self.bend)
        a, b, c, d = (entry[..., None, None] for entry in (a, b, c, d))

        def without(bend_x: Tensor, bend_y: Tensor) -> Tensor:
            return exact - torch.stack([a * bend_x + b * bend_y, c * bend_x + d * bend_y], -1)

        grid = without(*bend.unbind(-1))
        for _ in range(refine):
            grid = without(*sample(bend.movedim(-1, -3), grid, "border").unbind(-3))
        return grid

    def theta(self, params: Float[Tensor, "*S P"]) -> Float[Tensor, "*S T"]:
        """The coefficients of the fields."""
        if params.shape[-1] != self.n_params:
            raise ValueError(
                f"this warp takes {self.n_params} parameters on the last axis, "
                f"got a tensor of shape {tuple(params.shape)}"
            )
        return self.to_theta(params) if self.to_theta else params

    def _field(
        self, theta: Float[Tensor, "*S T"], basis: Float[Tensor, "T H W 2"]
    ) -> Float[Tensor, "*S H W 2"]:
        return (theta @ basis.flatten(1)).unflatten(-1, (*self.size, 2))

    @checked
    def forward(
        self,
        images: Float[Tensor, "*S C H W"],
        params: Float[Tensor, "*S P"],
        padding: str = "zeros",
    ) -> Float[Tensor, "*S C H W"]:
        """`images` sampled at the grid of `params`."""
        if images.shape[-2:] != self.size:
            raise ValueError(
                f"this warp was made for images of size {self.size}, got {tuple(images.shape)}"
            )
        return sample(images, self.grid(params), padding)


def _rotation(size: Size) -> Warp:
    def to_theta(angle: Float[Tensor, "*S 1"]) -> Float[Tensor, "*S 2"]:
        return torch.cat([angle.cos() - 1, angle.sin()], -1)

    return Warp(similarity_basis(size)[:2], to_theta, n_params=1)


WARPS: dict[str, Callable[..., Warp]] = {
    "identity": lambda size: Warp(torch.zeros(0, *size, 2)),
    "translation": lambda size: Warp(translation_basis(size)),
    "rotation": _rotation,
    "similarity": lambda size: Warp(similarity_basis(size)),
    "affine": lambda size: Warp(affine_basis(size)),
    "tps": lambda size, n=3: Warp(tps_basis(size, n)),
}


def make_warp(name: str, size: Size, **options: int) -> Warp:
    """A warp by name, e.g. `make_warp("affine", (28, 28))` or `make_warp("tps", (28, 28), n=4)`.

    Numbers of parameters: identity 0; translation 2 (t_x, t_y); rotation 1 (the grid's angle in
    radians, clockwise on the screen); similarity 4; affine 6; tps 2 n^2.
    """
    check_known("warp", name, WARPS)
    return WARPS[name](size, **options)
