"""Laws of the warps: identities, matrices, shifts, and what makes a thin-plate spline one.

Coordinates are those of `grid_sample(align_corners=False)`: -1 and 1 are the outer edges.
"""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tvae_core.runtime import seeded
from tvae_core.warps import PADDINGS, WARPS, control_points, make_warp, tps_basis

# Every warp there is, so that a new one meets these laws without being asked.
ALL = [(name, {}) for name in WARPS] + [("tps", {"n": n}) for n in (2, 4)]
every_warp = pytest.mark.parametrize(("name", "options"), ALL)
every_size = pytest.mark.parametrize("size", [(28, 28), (5, 8), (12, 23)])
every_n = pytest.mark.parametrize("n", [2, 3, 4])


def uniform(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    with seeded(seed):
        return torch.rand(shape, dtype=dtype)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    with seeded(seed):
        return torch.randn(shape, dtype=dtype)


@every_warp
@every_size
@pytest.mark.parametrize("padding", PADDINGS)
def test_zero_parameters_leave_images_as_they_are(name, options, size, padding):
    warp = make_warp(name, size, **options)
    images = uniform(3, 2, *size)
    warped = warp(images, torch.zeros(3, warp.n_params), padding)
    torch.testing.assert_close(warped, images, rtol=0, atol=1e-6)


@every_size
def test_affine_is_torchs_affine_grid(size):
    matrix = normal(7, 2, 3)
    grid = make_warp("affine", size).grid((matrix - torch.eye(2, 3)).flatten(1))
    expected = F.affine_grid(matrix, [7, 1, *size], align_corners=False)
    torch.testing.assert_close(grid, expected, rtol=0, atol=1e-5)


SUBGROUPS = {
    "identity": ([], [[1, 0, 0], [0, 1, 0]]),
    "translation": ([0.3, -0.2], [[1, 0, 0.3], [0, 1, -0.2]]),
    "rotation": (
        [0.7],
        [[math.cos(0.7), -math.sin(0.7), 0], [math.sin(0.7), math.cos(0.7), 0]],
    ),
    "similarity": ([0.4, -0.3, 0.2, -0.1], [[1.4, 0.3, 0.2], [-0.3, 1.4, -0.1]]),
}


@pytest.mark.parametrize("name", SUBGROUPS)
@every_size
def test_lesser_warps_are_the_affine_of_their_matrix(name, size):
    params, matrix = SUBGROUPS[name]
    theta = torch.tensor(matrix) - torch.eye(2, 3)
    torch.testing.assert_close(
        make_warp(name, size).grid(torch.tensor(params)),
        make_warp("affine", size).grid(theta.flatten()),
    )


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_turning_the_grid_clockwise_turns_the_picture_the_other_way(turns):
    image = uniform(1, 1, 9, 9)
    turned = make_warp("rotation", (9, 9))(image, torch.full((1, 1), turns * math.pi / 2))
    # rot90 turns counter-clockwise. At the frame's edge, rounding blends in a bit of the padding.
    torch.testing.assert_close(turned, image.rot90(turns, (-2, -1)), rtol=0, atol=1e-5)


def shift_params(name: str, tx: float, ty: float) -> torch.Tensor:
    """Parameters that move the whole grid by (tx, ty)."""
    return torch.tensor(
        {
            "translation": [[tx, ty]],
            "similarity": [[0, 0, tx, ty]],
            "affine": [[0, 0, tx, 0, 0, ty]],
            "tps": [[tx] * 9 + [ty] * 9],
        }[name]
    )


@pytest.mark.parametrize("name", ["translation", "similarity", "affine", "tps"])
@pytest.mark.parametrize(("dx", "dy"), [(1, 0), (0, -2), (-3, 2)])
def test_a_shift_by_whole_pixels_is_roll_inside_the_frame(name, dx, dy):
    height, width = size = (6, 9)
    image = uniform(1, 1, *size)
    # Looking dx pixels to the right moves the picture dx to the left.
    shifted = make_warp(name, size)(image, shift_params(name, 2 * dx / width, 2 * dy / height))
    rolled = image.roll((-dy, -dx), (-2, -1))
    inside = (
        ...,
        slice(max(0, -dy), height - max(0, dy)),
        slice(max(0, -dx), width - max(0, dx)),
    )
    torch.testing.assert_close(shifted[inside], rolled[inside], rtol=0, atol=1e-5)


@pytest.mark.parametrize("part", [0.25, 0.5])
def test_between_pixels_lies_their_weighted_mean(part):
    size = (6, 9)
    image = uniform(1, 1, *size)
    params = torch.tensor([[2 * part / 9, 0.0]])
    shifted = make_warp("translation", size)(image, params)
    mean = (1 - part) * image[..., :-1] + part * image[..., 1:]
    torch.testing.assert_close(shifted[..., :-1], mean, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("padding", "numpy_mode"),
    [("zeros", "constant"), ("border", "edge"), ("reflection", "symmetric")],
)
@pytest.mark.parametrize(("dx", "dy"), [(2, 1), (-1, -3)])
def test_beyond_the_frame_lies_what_the_padding_says(padding, numpy_mode, dx, dy):
    height, width = size = (6, 9)
    image = uniform(1, 1, *size)
    params = torch.tensor([[2 * dx / width, 2 * dy / height]])
    shifted = make_warp("translation", size)(image, params, padding)
    padded = torch.from_numpy(np.pad(image[0, 0].numpy(), 3, mode=numpy_mode))
    window = padded[3 + dy : 3 + dy + height, 3 + dx : 3 + dx + width]
    torch.testing.assert_close(shifted[0, 0], window, rtol=0, atol=1e-5)


# The thin-plate spline. Its displacement field is one function along x and one along y, so the
# laws look at a single function with given values at the control points.


def u(squared: np.ndarray) -> np.ndarray:
    """U = r^2 log r. (Bookstein's r^2 log r^2 is twice that, and gives the same spline.)"""
    return 0.5 * squared * np.log(np.where(squared > 0, squared, 1))


def design(points: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The spline's terms at `points`: the kernel's columns, and 1, x, y."""
    squared = ((points[:, None] - centres[None]) ** 2).sum(-1)
    return u(squared), np.column_stack([np.ones(len(points)), points])


def pixels(height: int, width: int) -> np.ndarray:
    x, y = (2 * np.arange(width) + 1) / width - 1, (2 * np.arange(height) + 1) / height - 1
    return np.array([(x_, y_) for y_ in y for x_ in x])


def along_x(size: tuple[int, int], n: int, values: np.ndarray) -> np.ndarray:
    """The spline with `values` at the control points, at the pixels, as tvae_core has it."""
    basis = tps_basis(size, n).numpy()
    return np.tensordot(values, basis[: n * n, ..., 0], 1).reshape(-1)


def test_control_points_run_row_by_row_from_the_top_left_corner():
    assert control_points(2).tolist() == [[-1, -1], [1, -1], [-1, 1], [1, 1]]
    assert control_points(3)[:4].tolist() == [[-1, -1], [0, -1], [1, -1], [-1, 0]]


@every_n
def test_tps_interpolates_its_control_points(n):
    # No pixel's centre is a control point. So read the coefficients off the field at the pixels,
    # and evaluate the spline at the control points with those.
    size, centres = (13, 11), control_points(n).numpy()
    values = normal(n * n, dtype=torch.float64).numpy()
    field = along_x(size, n, values)
    terms = np.hstack(design(pixels(*size), centres))
    coefficients, *_ = np.linalg.lstsq(terms, field, rcond=None)
    np.testing.assert_allclose(terms @ coefficients, field, atol=1e-9)  # it is such a spline
    at_centres = np.hstack(design(centres, centres)) @ coefficients
    np.testing.assert_allclose(at_centres, values, atol=1e-8)
    # Far away it is an affine map: the kernels' weights balance 1, x and y.
    balance = coefficients[: n * n] @ np.column_stack([np.ones(n * n), centres])
    np.testing.assert_allclose(balance, 0, atol=1e-8)


@every_n
@every_size
def test_tps_equals_a_spline_solved_another_way(n, size):
    # Wahba (1990, eq. 2.4.24): the kernel's weights live where they balance 1, x and y.
    centres = control_points(n).numpy()
    kernel, affine = design(centres, centres)
    q, r = np.linalg.qr(affine, mode="complete")
    within, balanced = q[:, :3], q[:, 3:]
    values = normal(n * n, dtype=torch.float64).numpy()
    w = balanced @ np.linalg.solve(balanced.T @ kernel @ balanced, balanced.T @ values)
    a = np.linalg.solve(r[:3], within.T @ (values - kernel @ w))
    kernel_at, affine_at = design(pixels(*size), centres)
    np.testing.assert_allclose(along_x(size, n, values), kernel_at @ w + affine_at @ a, atol=1e-10)


@every_n
@every_size
def test_tps_moves_x_by_its_first_half_and_y_by_its_second(n, size):
    x_part, y_part = tps_basis(size, n).chunk(2)
    assert torch.equal(x_part[..., 0], y_part[..., 1])
    assert not x_part[..., 1].any()
    assert not y_part[..., 0].any()


@every_n
@every_size
def test_tps_reproduces_affine_maps(n, size):
    theta = normal(2, 3)
    centres = control_points(n).float()
    moves = centres @ theta[:, :2].T + theta[:, 2]
    torch.testing.assert_close(
        make_warp("tps", size, n=n).grid(moves.T.flatten()),
        make_warp("affine", size).grid(theta.flatten()),
        rtol=0,
        atol=1e-5,
    )


@every_n
@pytest.mark.parametrize("seed", [0, 1])
def test_tps_bends_least_of_all_functions_through_its_control_points(n, seed):
    """E(f + eps g) >= E(f) for every g that is zero at the control points, and every eps.

    The energy is the integral of f_xx^2 + 2 f_xy^2 + f_yy^2, here by finite differences. g fades
    out before the edge, so the frame's part of the plane is all that matters.
    """
    side = 160
    h = 2 / side
    points = pixels(side, side)
    x, y = points.T
    values = normal(n * n, seed=seed, dtype=torch.float64).numpy()
    f = along_x((side, side), n, values).reshape(side, side)
    a = normal(2, 3, seed=seed, dtype=torch.float64).numpy()
    zero_x, zero_y = (np.sin(np.pi * (n - 1) * (t + 1) / 2) for t in (x, y))
    fade = ((1 - x**2) * (1 - y**2)) ** 3
    g = fade * (zero_x * np.cos(np.c_[x, y, x * y] @ a[0]) + zero_y * np.cos(points @ a[1, :2]))
    g = g.reshape(side, side)

    def second(field: np.ndarray) -> np.ndarray:
        """f_xx, sqrt 2 f_xy, f_yy at the inner points."""
        xx = np.diff(field, 2, axis=1)[1:-1]
        yy = np.diff(field, 2, axis=0)[:, 1:-1]
        xy = (field[2:, 2:] - field[2:, :-2] - field[:-2, 2:] + field[:-2, :-2]) / 4
        return np.stack([xx, math.sqrt(2) * xy, yy]) / h**2

    f2, g2 = second(f), second(g)
    assert (g2**2).sum() > 0.1 * (f2**2).sum()  # g bends too
    # E(f + eps g) = E(f) + 2 eps <f, g> + eps^2 E(g): the least over eps is E(f) (1 - cosine^2).
    cosine = (f2 * g2).sum() / math.sqrt((f2**2).sum() * (g2**2).sum())
    assert abs(cosine) < 1e-4  # 2e-5 is the differences' own error; r or r^3 give over 4e-4


# Gradients, axes, state, errors.


@every_warp
@pytest.mark.parametrize("padding", PADDINGS)
def test_the_gradient_reaches_parameters_and_images(name, options, padding):
    size = (4, 3)
    warp = make_warp(name, size, **options).double()
    # Bilinear sampling has kinks at pixel centres; random poses lie between them.
    params = 0.3 * normal(2, warp.n_params, seed=1, dtype=torch.float64)
    images = uniform(2, 1, *size, dtype=torch.float64)
    inputs = images.requires_grad_(), params.requires_grad_()
    assert torch.autograd.gradcheck(lambda *inputs: warp(*inputs, padding), inputs)


@every_warp
@pytest.mark.parametrize("leading", [(), (3,), (4, 3), (2, 1, 3)])
def test_each_image_along_the_leading_axes_meets_its_own_parameters(name, options, leading):
    size = (5, 8)
    warp = make_warp(name, size, **options)
    images, params = uniform(*leading, 2, *size), 0.3 * normal(*leading, warp.n_params)
    warped = warp(images, params)
    assert warped.shape == images.shape
    for index in np.ndindex(leading):
        alone = warp(images[index], params[index])
        torch.testing.assert_close(warped[index], alone)


@every_warp
def test_leading_axes_broadcast_and_others_are_refused(name, options):
    size = (5, 8)
    warp = make_warp(name, size, **options)
    images, params = uniform(3, 1, *size), 0.3 * normal(4, 1, warp.n_params)
    warped = warp(images, params)
    for k, b in np.ndindex(4, 3):
        torch.testing.assert_close(warped[k, b], warp(images[b], params[k, 0]))
    with pytest.raises(RuntimeError, match="broadcast"):
        warp(uniform(2, 3, 1, *size), normal(3, 2, warp.n_params))


@every_warp
def test_a_warp_has_nothing_to_learn_or_to_keep(name, options):
    warp = make_warp(name, (5, 8), **options)
    assert not warp.state_dict()
    assert not list(warp.parameters())


def test_an_unknown_name_is_answered_with_the_known():
    with pytest.raises(ValueError, match=r"unknown warp 'afine'; known: .*affine, tps"):
        make_warp("afine", (5, 8))
    with pytest.raises(ValueError, match="unknown padding 'edge'; known: zeros, border, refl"):
        make_warp("affine", (5, 8))(torch.zeros(1, 1, 5, 8), torch.zeros(1, 6), "edge")


def test_a_wrong_shape_is_refused():
    warp = make_warp("affine", (5, 8))
    with pytest.raises(ValueError, match=r"takes 6 parameters .*\(2, 5\)"):
        warp.grid(torch.zeros(2, 5))
    with pytest.raises(ValueError, match=r"size \(5, 8\), got \(2, 1, 8, 5\)"):
        warp(torch.zeros(2, 1, 8, 5), torch.zeros(2, 6))


def test_a_spline_needs_two_by_two_control_points():
    with pytest.raises(ValueError, match="at least 2 x 2 control points, got n=1"):
        make_warp("tps", (5, 8), n=1)
