"""Poses in units, on models whose warp of every image is known."""

import csv
import itertools
import math
import time

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal

from tvae_core import data, evaluation, models, moved, poses, warps
from tvae_core.data import Images
from tvae_core.runtime import seeded

SIZE = (24, 30)
KNOWN = {
    "degrees": [0.0, 30.0, -75.0, 170.0],
    "shift_x": [0.0, 2.0, -1.5, 3.0],
    "shift_y": [0.0, -1.0, 2.5, 0.5],
    "scale_x": [1.0, 1.3, 0.7, 1.1],
    "scale_y": [1.0, 0.8, 1.2, 1.4],
    "shear": [0.0, 0.3, -0.4, 0.1],
}


def by_hand(known: dict[str, list[float]], mirrored: bool = False) -> Tensor:
    """P of each row, in pixels, from the formula in the module's docstring."""
    maps = []
    for degrees, *shift, sx, sy, shear in zip(*known.values(), strict=True):
        turn = math.radians(-degrees)  # y points downwards, so clockwise is positive
        rotation = [[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]]
        scale = [[sx, 0], [0, -sy if mirrored else sy]]
        linear = torch.tensor(rotation) @ torch.tensor([[1, shear], [0, 1]]) @ torch.tensor(scale)
        maps.append(torch.cat([linear, torch.tensor(shift)[:, None]], 1))
    return torch.stack(maps)


class Read(nn.Module):
    """An encoder that reads u off the image: the value of the first pixel is the row of a table."""

    def __init__(self, u: Tensor, sd: float) -> None:
        super().__init__()
        self.u, self.sd = u, sd

    def forward(self, x: Tensor) -> Normal:
        u = self.u[(x[:, 0, 0, 0] * 255).round().long()]
        mean = torch.cat([torch.zeros(len(u), 3), u], 1)
        return Normal(mean, torch.full_like(mean, self.sd))


def numbered(n: int) -> Images:
    """Random images whose first pixel says which they are."""
    with seeded(0):
        pixels = torch.randint(0, 256, (n, 1, *SIZE), dtype=torch.uint8)
    pixels[:, 0, 0, 0] = torch.arange(n)
    return Images(pixels, None, "numbered")


def model_of(maps: Tensor, warp: str = "affine", sd: float = 1e-6) -> models.VAE:
    """A model that infers for image i the pose P = maps[i], in pixels, with W = I and b = 0."""
    model = models.build(warp, SIZE, dim_z=3, hidden=(8,))
    pixels = torch.tensor([SIZE[1] / 2, SIZE[0] / 2])
    linear = torch.linalg.inv(maps[..., :2] / pixels[:, None] * pixels)
    shift = -linear @ (maps[..., 2:] / pixels[:, None])
    theta = torch.cat([linear - torch.eye(2), shift], -1).flatten(1)
    if warp == "tps":  # where the map takes the control points
        points = warps.control_points(3).float()
        moved = points @ (linear - torch.eye(2)).mT + shift.mT
        theta = moved.mT.flatten(1)
    nn.init.eye_(model.decoder.pose.weight)
    nn.init.zeros_(model.decoder.pose.bias)
    model.dim_u = model.decoder.dim_u = theta.shape[1]
    model.encoder = Read(theta, sd)
    return model


def identity(n: int) -> Tensor:
    return torch.eye(2, 3).expand(n, -1, -1)


@pytest.mark.parametrize("mirrored", [False, True])
def test_the_six_numbers_of_a_map_are_those_it_was_made_from(mirrored, subtests):
    found = poses.decompose(by_hand(KNOWN, mirrored))
    for name, values in KNOWN.items():
        with subtests.test(name):
            torch.testing.assert_close(found[name], torch.tensor(values), atol=1e-4, rtol=1e-4)
    assert found["reflected"].tolist() == [float(mirrored)] * 4


@pytest.mark.parametrize("warp", ["affine", "tps"])
def test_a_table_has_the_poses_that_the_model_infers(warp, subtests):
    # The first image is in the mean pose, as its map is the identity, and it is the reference.
    model, images = model_of(by_hand(KNOWN), warp), numbered(4)
    table = poses.table(model, images, reference=images[:1], draws=3)
    assert len(table) == 4
    for name, values in KNOWN.items():
        with subtests.test(name):
            torch.testing.assert_close(table[name], torch.tensor(values), atol=2e-3, rtol=2e-3)
            assert table[f"{name}_sd"].max() < 0.01
    assert table["reflected"].tolist() == [0.0] * 4
    assert table["bend"].max() < 1e-3


def test_the_reported_pose_is_that_of_the_picture():
    """A blob drawn through the decoder's own warp, measured by its moments."""
    known = {name: values[:2] for name, values in KNOWN.items()}
    known |= {"scale_x": [1.0, 1.0], "scale_y": [1.0, 1.0], "shear": [0.0, 0.0]}
    model = model_of(by_hand(known))
    x, y = (model.decoder.warp.identity * torch.tensor([15.0, 12.0])).unbind(-1)
    upright = torch.exp(-(x**2) / 4 - y**2 / 16).expand(2, 1, -1, -1)
    drawn = model.decoder.warp(upright, model.encoder.u)
    seen = poses.moments(data.from_tensor(drawn))
    for name in ("degrees", "shift_x", "shift_y"):
        torch.testing.assert_close(seen[name], torch.tensor(known[name]), atol=0.3, rtol=0)
    table = poses.table(model, numbered(2), reference=numbered(1))
    for name in ("degrees", "shift_x", "shift_y"):
        torch.testing.assert_close(table[name], torch.tensor(known[name]), atol=1e-2, rtol=0)


TURN = math.radians(50)
ROTATION = torch.tensor([[math.cos(TURN), -math.sin(TURN)], [math.sin(TURN), math.cos(TURN)]])


def turned(model: models.VAE) -> models.VAE:
    """Chapter 3's proof: the model that draws other canonical images, and turns them back.

    Every point of a grid is turned about the middle, in coordinates from -1 to 1.
    """
    u, warp = model.encoder.u, model.decoder.warp
    if warp.bends:
        points = warps.control_points(3).float()
        grid = points + u.unflatten(-1, (2, 9)).mT
        model.encoder.u = (grid @ ROTATION.mT - points).mT.flatten(1)
    else:
        maps = u.unflatten(-1, (2, 3)) + torch.eye(2, 3)
        model.encoder.u = (ROTATION @ maps - torch.eye(2, 3)).flatten(1)
    return model


@pytest.mark.parametrize("warp", ["affine", "tps"])
def test_turning_the_whole_model_changes_nothing_that_is_reported(warp):
    images, maps = numbered(4), by_hand(KNOWN)
    model, other = model_of(maps, warp), turned(model_of(maps, warp))
    assert not torch.allclose(other.encoder.u, model.encoder.u, atol=0.3)
    table, again = (poses.table(each, images, draws=2) for each in (model, other))
    for name in KNOWN:
        torch.testing.assert_close(again[name], table[name], atol=5e-3, rtol=1e-3)
    torch.testing.assert_close(again["bend"], table["bend"], atol=1e-3, rtol=0)
    found = [poses.maps(each, images, images[:2]) for each in (model, other)]
    torch.testing.assert_close(*found, atol=1e-3, rtol=1e-3)
    if warp == "affine":  # a spline's inverse is iterated, and a large turn makes it less exact
        straight = [poses.align(each, images, images[:1]).straightened for each in (model, other)]
        inside = (..., slice(4, -4), slice(4, -4))
        torch.testing.assert_close(straight[0][inside], straight[1][inside], atol=1e-3, rtol=0)


def test_turning_the_whole_model_does_not_change_what_it_draws_of_an_aligned_picture():
    """The other model's canonical images are turned as its grids are: M f(p) at p = M r."""
    maps, images = by_hand({name: values[:2] for name, values in KNOWN.items()}), numbered(2)

    def blob(points: Tensor) -> Tensor:
        x, y = ((points - torch.tensor([0.1, -0.2])) * torch.tensor([1.8, 3.0])).unbind(-1)
        return torch.exp(-x.square() - y.square())

    drawn = []
    for model, turn in ((model_of(maps), torch.eye(2)), (turned(model_of(maps)), ROTATION)):
        picture = blob(model.decoder.warp.identity @ turn)  # turn^-1 = its transpose
        model.canonical = lambda latents, p=picture: p.expand(len(latents), 1, *SIZE)
        drawn.append(poses.align(model, images, images[:1]).canonical)
    inside = (..., slice(4, -4), slice(4, -4))  # near the border grids leave the canonical image
    torch.testing.assert_close(drawn[0][inside], drawn[1][inside], atol=0.02, rtol=0)
    assert not torch.allclose(drawn[0], drawn[0].rot90(2, (-2, -1)), atol=0.1)


def test_the_deviation_of_a_bend_is_that_over_draws():
    images, maps = numbered(3), by_hand({name: values[:3] for name, values in KNOWN.items()})
    model = model_of(maps, "tps", sd=0.05)
    with seeded(0):
        table = poses.table(model, images, images[:1], draws=400)
    with seeded(0):
        origin = poses.mean_map(model, images[:1])
        bend = poses.drawn(model, images.x, 400, origin)[1]
    assert table["bend_sd"].min() > 0.02
    torch.testing.assert_close(table["bend_sd"], bend.std(0, correction=0))


def test_weights_that_are_nan_are_named():
    model = model_of(by_hand(KNOWN))
    nn.init.constant_(model.decoder.pose.weight, math.nan)
    for ask in (poses.table, poses.align, poses.maps):
        with pytest.raises(ValueError, match="not finite: the weights are probably NaN"):
            ask(model, numbered(4))


def test_the_standard_deviations_are_those_of_q():
    """A shift of the grid by t moves the picture by -t: with W = I, t's deviation is that of u."""
    model = model_of(identity(1), sd=0.01)
    with seeded(0):
        table = poses.table(model, numbered(1), numbered(1), draws=20_000)
    assert table["shift_x_sd"].item() == pytest.approx(0.01 * 15, rel=0.03)
    assert table["shift_y_sd"].item() == pytest.approx(0.01 * 12, rel=0.03)
    assert table["degrees_sd"].item() == pytest.approx(math.degrees(0.01 * 12 / 15), rel=0.03)


def test_angles_are_averaged_on_the_circle():
    known = {name: [1.0 if name.startswith("scale") else 0.0] for name in KNOWN}
    model = model_of(by_hand(known | {"degrees": [179.9]}), sd=0.02)
    with seeded(0):
        table = poses.table(model, numbered(1), numbered(1), draws=2_000)
        away = poses.table(
            model_of(torch.cat([by_hand(known | {"degrees": [179.9]}), identity(1)]), sd=0.02),
            numbered(2),
            reference=numbered(2)[1:],
            draws=2_000,
        )
    assert abs(table["degrees"].item()) < 0.5  # it is its own mean pose
    assert abs(abs(away["degrees"][0].item()) - 180) < 1
    assert away["degrees_sd"][0] < 5


def test_bend_is_what_an_affine_map_cannot_do():
    model = model_of(identity(2), "tps")
    model.encoder.u[1, 4] = 0.4  # the middle control point, along x
    table = poses.table(model, numbered(2))
    assert table["bend"][0] < 1e-4
    assert table["bend"][1] > 0.5


def test_the_map_of_a_spline_fits_its_grid_best_under_the_ink():
    """Against a weighted least-squares fit of each grid, one image and one draw at a time."""
    model, images = model_of(identity(3), "tps"), numbered(3)
    with seeded(0):
        u, x = 0.3 * torch.randn(2, 3, 18), images.x + torch.rand(images.x.shape).round()
    found, bend = poses.maps_of(model, x, u)
    warp = model.decoder.warp
    points = torch.cat([warp.identity, torch.ones(*warp.size, 1)], -1).flatten(0, 1).double()
    for k, i in itertools.product(range(2), range(3)):
        weight = (x[i].flatten() + 1e-3).double()
        root = (weight / weight.sum()).sqrt()[:, None]
        grid = warp.grid(model.decoder.pose(u))[k, i].flatten(0, 1).double()
        by_hand = torch.linalg.lstsq(root * points, root * grid).solution.T
        torch.testing.assert_close(found[k, i].double(), by_hand, atol=1e-5, rtol=1e-4)
        left = root * (grid - points @ by_hand.T) * torch.tensor([15.0, 12.0])
        assert bend[k, i].item() == pytest.approx(left.norm().item(), rel=1e-4)
        assert bend[k, i] > 0.3


def blobs(model: models.VAE, n: int) -> Tensor:
    x, y = (model.decoder.warp.identity * torch.tensor([15.0, 12.0])).unbind(-1)
    one = torch.exp(-((x - 2) ** 2) / 9 - (y + 1) ** 2 / 25)
    return one.expand(n, 1, -1, -1)


@pytest.mark.parametrize("warp", ["affine", "tps"])
def test_aligned_images_lie_as_in_the_mean_pose(warp):
    gentle = {name: values[:3] for name, values in KNOWN.items()} | {"degrees": [0.0, 20.0, -15.0]}
    model = model_of(by_hand(gentle), warp)
    upright = blobs(model, 3)
    drawn = model.decoder.warp(upright, model.encoder.u)
    drawn[:, 0, 0, 0] = torch.arange(3) / 255
    images = Images((255 * drawn).round().byte(), None, "blobs")
    aligned = poses.align(model, images, reference=images[:1])
    assert (drawn[1:] - upright[1:]).abs().max() > 0.3
    assert (aligned.straightened - upright)[..., 2:-2, 2:-2].abs().max() < 0.08
    # The model's own drawings, in the same frame: the reference is in the identity's pose.
    canonical = model.canonical(model.posterior(images.x).mean)
    torch.testing.assert_close(aligned.canonical, canonical, atol=2e-3, rtol=0)


def test_moments_find_a_turned_and_shifted_ellipse():
    model = models.build("affine", SIZE)
    x, y = (model.decoder.warp.identity * torch.tensor([15.0, 12.0])).unbind(-1)
    turn = math.radians(35)
    along = (x - 3) * math.sin(turn) + (y + 2) * math.cos(turn)
    across = (x - 3) * math.cos(turn) - (y + 2) * math.sin(turn)
    ellipse = torch.exp(-(across**2) / 2 - along**2 / 12).view(1, 1, *SIZE)
    table = poses.moments(data.from_tensor(torch.cat([ellipse, ellipse.flip(-1)])))
    assert table["degrees"].tolist() == pytest.approx([35, -35], abs=1.5)
    assert table["shift_x"].tolist() == pytest.approx([3, -3], abs=0.1)
    assert table["shift_y"].tolist() == pytest.approx([-2, -2], abs=0.1)


def test_the_maps_of_moments_have_its_degrees_shifts_and_scales(subtests):
    with seeded(0):
        images = moved.moved(
            data.load("mini", "test")[:50], moved.Moves(degrees=40, shift=2), seed=0
        )
    found, units = poses.moments(images), poses.decompose(poses.moments_maps(images))
    for name in poses.UNITS:
        with subtests.test(name):
            torch.testing.assert_close(units[name], found[name], atol=1e-3, rtol=1e-4)


def test_a_model_that_looks_twice_has_the_poses_of_its_own_u():
    with seeded(1):
        model = models.build("affine", SIZE, dim_z=3, hidden=(8, 8), look="straight", pose_std=0.02)
    images = numbered(5)
    table = poses.table(model, images, draws=4_000)
    with torch.no_grad():
        u = model.posterior(images.x).u
        theta = model.decoder.pose(u.mean).unflatten(-1, (2, 3)) + torch.eye(2, 3)
    P = poses.relative(theta, poses.mean_map(model, images), SIZE)
    # Mean over draws, against the pose of the mean: they differ by the curvature only.
    assert (poses.decompose(P)["shift_x"] - table["shift_x"]).abs().max() < 0.1
    assert table["shift_x_sd"].min() > 0.2


def test_the_nll_is_a_column_if_asked_for():
    model, images = model_of(by_hand(KNOWN), sd=0.5), numbered(4)
    with seeded(2):
        table = poses.table(model, images, draws=2, nll_samples=20)
    assert table["nll"].shape == (4,)
    assert "nll" not in poses.table(model, images, draws=2).columns
    with seeded(2):
        poses.table(model, images, draws=2)  # the same draws, before those of the NLL
        torch.testing.assert_close(table["nll"], evaluation.nll(model, images, 20).nll)


def test_a_table_is_saved_and_becomes_a_data_frame(tmp_path):
    table = poses.table(model_of(by_hand(KNOWN)), numbered(4), draws=2)
    table.save(str(tmp_path / "poses.csv"))
    rows = list(csv.DictReader((tmp_path / "poses.csv").read_text(encoding="utf-8").splitlines()))
    assert list(rows[0]) == list(table.columns)
    assert [float(row["degrees"]) for row in rows] == pytest.approx(
        table["degrees"].tolist(), rel=1e-4, abs=1e-4
    )
    frame = table.to_pandas()
    assert frame["shear"].tolist() == table["shear"].tolist()


def test_what_has_no_pose_is_refused_in_a_sentence():
    plain = models.build("plain", SIZE, hidden=(8,))
    for act in (poses.table, poses.align):
        with pytest.raises(TypeError, match="this model has no warp"):
            act(plain, numbered(2))
    with pytest.raises(ValueError, match="draws must be a whole number of at least 1, got 0"):
        poses.table(model_of(identity(2)), numbered(2), draws=0)
    for act in (poses.table, poses.align, poses.maps):
        with pytest.raises(
            ValueError, match="one image has no mean pose to measure from: pass several"
        ):
            act(model_of(identity(1)), numbered(1))
    with pytest.raises(ValueError, match="deviation needs at least two draws, got 1"):
        poses.table(model_of(identity(2)), numbered(2), draws=1)
    other = models.build("affine", (8, 8), hidden=(8,))
    with pytest.raises(ValueError, match="expected images of shape"):
        poses.table(other, numbered(2))
    blank = Images(torch.zeros(2, 1, 8, 8, dtype=torch.uint8), None, "blank")
    with pytest.raises(ValueError, match="image 0 has no ink"):
        poses.moments(blank)


def test_references_that_lie_in_all_directions_have_no_mean_pose():
    around = {name: [1.0 if name.startswith("scale") else 0.0] * 4 for name in KNOWN}
    every_way = around | {"degrees": [0.0, 90.0, 180.0, -90.0]}
    with pytest.warns(UserWarning, match="the reference images point in all directions"):
        poses.table(model_of(by_hand(every_way)), numbered(4), draws=2)
    with pytest.warns(UserWarning, match="pass others"):
        poses.maps(model_of(by_hand(every_way)), numbered(4))
    # By up to 90 degrees either way they still have one. Here a warning would be an error.
    half = around | {"degrees": [-90.0, -30.0, 30.0, 90.0]}
    poses.table(model_of(by_hand(half)), numbered(4), draws=2)


def test_a_model_that_only_shifts_has_no_angles():
    with seeded(0):
        model = models.build("translation", SIZE, hidden=(8,))
    table = poses.table(model, numbered(3), draws=2, nll_samples=2)
    assert {*table.columns} == {"shift_x", "shift_x_sd", "shift_y", "shift_y_sd", "nll"}
    assert len(table) == 3
    with pytest.raises(KeyError, match="this table has no 'degrees', only shift_x, shift_x_sd"):
        table["degrees"]
    with seeded(0):
        turning = models.build("rotation", SIZE, hidden=(8,))
    assert poses.table(turning, numbered(3), draws=2)["degrees_sd"].min() > 0


@pytest.mark.parametrize("name", ["affine", "tps"])
def test_a_table_of_ten_thousand_images_takes_seconds(name):
    """Of processor time, so that other processes do not count; it is a second or two."""
    model = models.build(name, look="straight").eval()
    images = data.load("mini", "train")
    images = images[torch.arange(10_000) % len(images)]
    start = time.process_time()
    assert len(poses.table(model, images)) == 10_000
    assert time.process_time() - start < 4
