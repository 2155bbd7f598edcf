"""Laws of the warps: identities, matrices, shifts, and what makes a spline a thin-plate spline.

Coordinates are those of `grid_sample(align_corners=False)`: -1 and 1 are the outer edges.
"""

import functools
import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tvae_core.runtime import seeded
from tvae_core.warps import PADDINGS, WARPS, Warp, control_points, make_warp, sample, tps_basis

# Every warp in the module: a new one is tested as soon as it is added.
EVERY_WARP = [(name, {}) for name in WARPS] + [("tps", {"n": n}) for n in (2, 4)]
SIZES = [(28, 28), (5, 8), (12, 23)]
NS = [2, 3, 4]  # splines with n x n control points


def uniform(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    with seeded(seed):
        return torch.rand(shape, dtype=dtype)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    with seeded(seed):
        return torch.randn(shape, dtype=dtype)


def test_zero_parameters_leave_images_as_they_are(subtests):
    for (name, options), size, padding in itertools.product(EVERY_WARP, SIZES, PADDINGS):
        with subtests.test(name, **options, size=size, padding=padding):
            warp = make_warp(name, size, **options)
            images = uniform(3, 2, *size)
            warped = warp(images, torch.zeros(3, warp.n_params), padding)
            torch.testing.assert_close(warped, images, rtol=0, atol=1e-6)


def test_the_affine_warp_agrees_with_torch(subtests):
    matrix = normal(7, 2, 3)
    for size in SIZES:
        with subtests.test(size=size):
            grid = make_warp("affine", size).grid((matrix - torch.eye(2, 3)).flatten(1))
            expected = F.affine_grid(matrix, [7, 1, *size], align_corners=False)
            torch.testing.assert_close(grid, expected, rtol=0, atol=1e-5)


SUBGROUPS = {  # matrices for square images
    "identity": ([], [[1, 0, 0], [0, 1, 0]]),
    "translation": ([0.3, -0.2], [[1, 0, 0.3], [0, 1, -0.2]]),
    "rotation": (
        [0.7],
        [[math.cos(0.7), -math.sin(0.7), 0], [math.sin(0.7), math.cos(0.7), 0]],
    ),
    "similarity": ([0.4, -0.3, 0.2, -0.1], [[1.4, 0.3, 0.2], [-0.3, 1.4, -0.1]]),
}
OBLONG = [(20, 60), (60, 20), (28, 28), (5, 8), (1, 7)]


def test_a_simpler_warp_is_the_affine_warp_with_the_same_matrix(subtests):
    for (name, (params, matrix)), size in itertools.product(SUBGROUPS.items(), SIZES):
        with subtests.test(name, size=size):
            theta = torch.tensor(matrix) - torch.eye(2, 3)
            ratio = size[0] / size[1]  # a turn of pixels, in units of the half width and height
            theta *= torch.tensor([[1, ratio, 1], [1 / ratio, 1, 1]])
            torch.testing.assert_close(
                make_warp(name, size).grid(torch.tensor(params)),
                make_warp("affine", size).grid(theta.flatten()),
            )


def test_rotations_and_similarities_keep_angles_between_pixels(subtests):
    """With the grid's step from each pixel to the next as columns of J: J'J = s^2 I, in pixels."""
    poses = {"rotation": [[0.7], [math.pi / 2], [-2.0]], "similarity": [[0.4, -0.3, 0.2, 0.1]]}
    for size, (name, all_params) in itertools.product(OBLONG[:4], poses.items()):
        for params in all_params:
            with subtests.test(name, size=size, params=params):
                warp = make_warp(name, size).double()
                side = torch.tensor([size[1], size[0]]) / 2
                pixel = warp.grid(torch.tensor(params, dtype=torch.float64)) * side
                steps = [pixel.diff(dim=axis).reshape(-1, 2) for axis in (1, 0)]
                jacobian = torch.stack([step[0] for step in steps], -1)
                squared = 1.4**2 + 0.3**2 if name == "similarity" else 1.0
                expected = squared * torch.eye(2, dtype=torch.float64)
                torch.testing.assert_close(jacobian.T @ jacobian, expected, rtol=0, atol=1e-5)
                for step in steps:  # the same everywhere
                    torch.testing.assert_close(step, step[:1].expand_as(step), rtol=0, atol=1e-5)


def test_a_square_turned_by_a_right_angle_is_the_same_square():
    image = torch.zeros(1, 1, 20, 60)
    image[..., 6:14, 26:34] = 1
    turned = make_warp("rotation", (20, 60))(image, torch.full((1, 1), math.pi / 2))
    torch.testing.assert_close(turned, image, rtol=0, atol=1e-4)


def test_the_grid_decides_on_the_size_of_what_is_sampled():
    x = torch.arange(12.0).view(1, 1, 2, 6)
    wide, tall = make_warp("affine", (2, 6)).identity, make_warp("affine", (3, 4)).identity
    torch.testing.assert_close(sample(x, wide[None]), x)
    found = sample(x, tall[None])
    assert found.shape == (1, 1, 3, 4)
    torch.testing.assert_close(found[0, 0, 1], torch.tensor([3.25, 4.75, 6.25, 7.75]))


def test_turning_the_grid_clockwise_turns_the_picture_counter_clockwise(subtests):
    image = uniform(1, 1, 9, 9)
    for turns in (1, 2, 3):
        with subtests.test(turns=turns):
            turned = make_warp("rotation", (9, 9))(image, torch.full((1, 1), turns * math.pi / 2))
            # rot90 turns counter-clockwise. Rounding blends a little padding into the outer pixels.
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


def test_inside_the_frame_a_shift_by_whole_pixels_is_a_roll(subtests):
    height, width = size = (6, 9)
    image = uniform(1, 1, *size)
    names, shifts = ["translation", "similarity", "affine", "tps"], [(1, 0), (0, -2), (-3, 2)]
    for name, (dx, dy) in itertools.product(names, shifts):
        with subtests.test(name, dx=dx, dy=dy):
            # Looking dx pixels to the right moves the picture dx to the left.
            params = shift_params(name, 2 * dx / width, 2 * dy / height)
            shifted = make_warp(name, size)(image, params)
            rolled = image.roll((-dy, -dx), (-2, -1))
            inside = (
                ...,
                slice(max(0, -dy), height - max(0, dy)),
                slice(max(0, -dx), width - max(0, dx)),
            )
            torch.testing.assert_close(shifted[inside], rolled[inside], rtol=0, atol=1e-5)


def test_a_shift_by_part_of_a_pixel_mixes_two_neighbours(subtests):
    size = (6, 9)
    image = uniform(1, 1, *size)
    for part in (0.25, 0.5):
        with subtests.test(part=part):
            params = torch.tensor([[2 * part / 9, 0.0]])
            shifted = make_warp("translation", size)(image, params)
            mean = (1 - part) * image[..., :-1] + part * image[..., 1:]
            torch.testing.assert_close(shifted[..., :-1], mean, rtol=0, atol=1e-5)


def test_the_padding_decides_what_is_seen_outside_the_frame(subtests):
    height, width = size = (6, 9)
    image = uniform(1, 1, *size)
    paddings = [("zeros", "constant"), ("border", "edge"), ("reflection", "symmetric")]
    for (padding, numpy_mode), (dx, dy) in itertools.product(paddings, [(2, 1), (-1, -3)]):
        with subtests.test(padding, dx=dx, dy=dy):
            params = torch.tensor([[2 * dx / width, 2 * dy / height]])
            shifted = make_warp("translation", size)(image, params, padding)
            padded = torch.from_numpy(np.pad(image[0, 0].numpy(), 3, mode=numpy_mode))
            window = padded[3 + dy : 3 + dy + height, 3 + dx : 3 + dx + width]
            torch.testing.assert_close(shifted[0, 0], window, rtol=0, atol=1e-5)


# The thin-plate spline. Its displacement field is one function along x and one along y, so these
# tests look at a single function with given values at the control points.


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
    """tvae_core's spline through `values` at the control points, evaluated at the pixels."""
    basis = tps_basis(size, n).numpy()
    return np.tensordot(values, basis[: n * n, ..., 0], 1).reshape(-1)


def test_control_points_run_row_by_row_from_the_top_left_corner():
    assert control_points(2).tolist() == [[-1, -1], [1, -1], [-1, 1], [1, 1]]
    assert control_points(3)[:4].tolist() == [[-1, -1], [0, -1], [1, -1], [-1, 0]]


def test_tps_interpolates_its_control_points(subtests):
    # No pixel's centre is a control point, so fit the spline's coefficients to the field at the
    # pixels, and use them to evaluate it at the control points.
    size = (13, 11)
    for n in NS:
        with subtests.test(n=n):
            side = np.array([size[1], size[0]]) / 2
            centres = control_points(n).numpy() * side
            values = normal(n * n, dtype=torch.float64).numpy()
            field = along_x(size, n, values)
            terms = np.hstack(design(pixels(*size) * side, centres))
            coefficients, *_ = np.linalg.lstsq(terms, field, rcond=None)
            np.testing.assert_allclose(terms @ coefficients, field, atol=1e-9)  # it is a spline
            at_centres = np.hstack(design(centres, centres)) @ coefficients
            np.testing.assert_allclose(at_centres, values, atol=1e-8)
            # Far away it is an affine map: the kernels' weights balance 1, x and y.
            balance = coefficients[: n * n] @ np.column_stack([np.ones(n * n), centres])
            np.testing.assert_allclose(balance, 0, atol=1e-8)


def test_tps_equals_a_spline_solved_another_way(subtests):
    # Wahba (1990, eq. 2.4.24): the kernel's weights lie in the space where they balance 1, x and y.
    for n, size in itertools.product(NS, [*SIZES, *OBLONG]):
        with subtests.test(n=n, size=size):
            side = np.array([size[1], size[0]]) / 2  # the spline bends least in pixels
            centres = control_points(n).numpy() * side
            kernel, affine = design(centres, centres)
            q, r = np.linalg.qr(affine, mode="complete")
            within, balanced = q[:, :3], q[:, 3:]
            values = normal(n * n, dtype=torch.float64).numpy()
            w = balanced @ np.linalg.solve(balanced.T @ kernel @ balanced, balanced.T @ values)
            a = np.linalg.solve(r[:3], within.T @ (values - kernel @ w))
            kernel_at, affine_at = design(pixels(*size) * side, centres)
            expected = kernel_at @ w + affine_at @ a
            np.testing.assert_allclose(along_x(size, n, values), expected, atol=1e-10)


def test_the_first_half_of_tps_parameters_moves_x_and_the_second_half_y(subtests):
    for n, size in itertools.product(NS, SIZES):
        with subtests.test(n=n, size=size):
            x_part, y_part = tps_basis(size, n).chunk(2)
            assert torch.equal(x_part[..., 0], y_part[..., 1])
            assert not x_part[..., 1].any()
            assert not y_part[..., 0].any()


def test_tps_reproduces_affine_maps(subtests):
    theta = normal(2, 3)
    for n, size in itertools.product(NS, SIZES):
        with subtests.test(n=n, size=size):
            centres = control_points(n).float()
            moves = centres @ theta[:, :2].T + theta[:, 2]
            torch.testing.assert_close(
                make_warp("tps", size, n=n).grid(moves.T.flatten()),
                make_warp("affine", size).grid(theta.flatten()),
                rtol=0,
                atol=1e-5,
            )


@pytest.mark.parametrize("n", NS)
@pytest.mark.parametrize("seed", [0, 1])
def test_tps_bends_less_than_any_other_function_through_its_control_points(n, seed):
    """E(f + eps g) >= E(f) for every g that is zero at the control points, and every eps.

    The energy is the integral of f_xx^2 + 2 f_xy^2 + f_yy^2, here by finite differences. g fades
    out before the edge, so only the part of the plane inside the frame matters.
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
    # Finite differences alone account for 2e-5; the kernels r and r^3 give over 4e-4.
    assert abs(cosine) < 1e-4


# Gradients, axes, state, errors.


def test_the_gradient_reaches_parameters_and_images(subtests):
    size = (4, 3)
    for (name, options), padding in itertools.product(EVERY_WARP, PADDINGS):
        with subtests.test(name, **options, padding=padding):
            warp = make_warp(name, size, **options).double()
            # Bilinear sampling has kinks at pixel centres; random poses lie between them.
            params = 0.3 * normal(2, warp.n_params, seed=1, dtype=torch.float64)
            images = uniform(2, 1, *size, dtype=torch.float64)
            inputs = images.requires_grad_(), params.requires_grad_()
            warped = functools.partial(warp, padding=padding)
            assert torch.autograd.gradcheck(warped, inputs)


def test_each_image_along_the_leading_axes_gets_its_own_parameters(subtests):
    size = (5, 8)
    all_leading = [(), (3,), (4, 3), (2, 1, 3)]
    for (name, options), leading in itertools.product(EVERY_WARP, all_leading):
        with subtests.test(name, **options, leading=leading):
            warp = make_warp(name, size, **options)
            images, params = uniform(*leading, 2, *size), 0.3 * normal(*leading, warp.n_params)
            warped = warp(images, params)
            assert warped.shape == images.shape
            for index in np.ndindex(leading):
                alone = warp(images[index], params[index])
                torch.testing.assert_close(warped[index], alone)


def test_leading_axes_broadcast_and_a_mismatch_is_refused(subtests):
    size = (5, 8)
    for name, options in EVERY_WARP:
        with subtests.test(name, **options):
            warp = make_warp(name, size, **options)
            images, params = uniform(3, 1, *size), 0.3 * normal(4, 1, warp.n_params)
            warped = warp(images, params)
            for k, b in np.ndindex(4, 3):
                torch.testing.assert_close(warped[k, b], warp(images[b], params[k, 0]))
            with pytest.raises(RuntimeError, match="broadcast"):
                warp(uniform(2, 3, 1, *size), normal(3, 2, warp.n_params))


def test_a_warp_has_no_parameters_and_no_state():
    for name, options in EVERY_WARP:
        warp = make_warp(name, (5, 8), **options)
        assert not warp.state_dict(), (name, options)
        assert not list(warp.parameters()), (name, options)


def test_an_unknown_name_is_refused_with_a_list_of_the_known_names():
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


def test_a_spline_needs_at_least_two_by_two_control_points():
    with pytest.raises(ValueError, match="at least 2 x 2 control points, got n=1"):
        make_warp("tps", (5, 8), n=1)


def forward_of_inverse(warp: Warp, params: torch.Tensor, refine: int = 0) -> torch.Tensor:
    """How far grid(inverse_grid(p)) is from p, in pixels, away from the border."""
    inverse = warp.inverse_grid(params, refine)
    there = sample(warp.grid(params).movedim(-1, -3), inverse, "border").movedim(-3, -1)
    away = (inverse.abs() < 0.8).all(-1)
    assert away.any()
    pixels = torch.tensor([warp.size[1] / 2, warp.size[0] / 2], dtype=params.dtype)
    return ((there - warp.identity) * pixels).norm(dim=-1)[away]


def test_affine_families_are_inverted_exactly(subtests):
    torch.manual_seed(0)
    for name in ("translation", "rotation", "similarity", "affine"):
        for size in ((28, 28), (20, 30)):
            with subtests.test(name=name, size=size):
                warp = make_warp(name, size).double()
                params = 0.2 * torch.randn(5, warp.n_params, dtype=torch.float64)
                assert forward_of_inverse(warp, params).max() < 1e-5
                assert forward_of_inverse(warp, 0 * params).max() < 1e-5
    # In a family that is closed under inversion, the inverse is another member's grid.
    rotation = make_warp("rotation", (28, 28))
    angle = torch.tensor([[0.4]])
    torch.testing.assert_close(
        rotation.inverse_grid(angle), rotation.grid(-angle), atol=1e-5, rtol=0
    )


def test_sampling_at_a_grid_and_then_at_its_inverse_restores_a_smooth_image():
    warp = make_warp("affine", (28, 28))
    x, y = warp.identity.unbind(-1)
    blob = torch.exp(-8 * ((x - 0.2) ** 2 + 2 * (y + 0.1) ** 2)).view(1, 28, 28)
    params = torch.tensor([0.1, -0.2, 0.1, 0.15, -0.1, -0.1])
    moved = warp(blob, params)
    back = sample(moved, warp.inverse_grid(params))
    assert (back - blob).abs().max() < 0.05 < (moved - blob).abs().max()


def test_each_refinement_brings_a_splines_inverse_closer():
    warp = make_warp("tps", (28, 28)).double()
    torch.manual_seed(1)
    params = 0.12 * torch.randn(50, 18, dtype=torch.float64)
    errors = [forward_of_inverse(warp, params, refine).mean().item() for refine in range(4)]
    # The grid of -theta, which is right to first order only, in the affine part too.
    minus = sample(
        warp.grid(params).movedim(-1, -3),
        warp.grid(-params).movedim(-1, -3).movedim(-3, -1),
        "border",
    ).movedim(-3, -1)
    naive = ((minus - warp.identity) * 14).norm(dim=-1)[:, 3:-3, 3:-3].mean().item()
    assert errors[0] < naive
    assert all(later < earlier / 2 for earlier, later in itertools.pairwise(errors))


def test_a_spline_that_does_not_bend_is_inverted_exactly():
    """Control points that moved by an affine map."""
    warp = make_warp("tps", (28, 28)).double()
    points = control_points(3)
    moved = points @ torch.tensor([[0.2, 0.1], [-0.1, -0.15]], dtype=torch.float64) + 0.1
    assert forward_of_inverse(warp, moved.T.reshape(1, 18)).max() < 1e-5


def test_a_singular_map_has_a_finite_inverse_and_gradient(subtests):
    warp = make_warp("affine", (28, 28))
    for matrix in ([-1.0, 0, 0, 0, -1, 0], [-0.99, 0, 0, 0, -1, 0], [-1.01, 0, 0, 0, 0, 0]):
        with subtests.test(matrix=matrix):
            params = torch.tensor(matrix, requires_grad=True)
            grid = warp.inverse_grid(params)
            assert grid.isfinite().all()
            (slope,) = torch.autograd.grad(sample(torch.ones(1, 28, 28), grid).sum(), params)
            assert slope.isfinite().all()
