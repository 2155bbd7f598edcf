"""Expected poses: a draw from the prior has the stated deviations, and u reads in units."""

import math

import pytest
import torch

from tvae_core import data, moved, poses
from tvae_core.moved import Moves
from tvae_core.own import expected, training

SIZE = (20, 30)
EXPECTED = {"turn": 30.0, "shift": 3.0, "scale": 10.0}


def units_of(model, u):
    """The picture's pose for each u: the inverse of the grid's map."""
    warp = model.decoder.warp
    with torch.no_grad():
        theta = warp.theta(model.decoder.pose(u)).double()
    maps = (theta @ warp.to_affine.double()).unflatten(-1, (2, 3)) + torch.eye(2, 3)
    return poses.decompose(poses.relative(maps, torch.eye(2, 3).double(), model.size))


@pytest.mark.parametrize("fixed", [False, True])
def test_draws_from_the_prior_have_the_stated_deviations(fixed):
    model = training.new_model("similarity", SIZE, 2, 8, **EXPECTED, fixed=fixed)
    u = torch.randn(200_000, 4, generator=torch.Generator().manual_seed(0))
    found = units_of(model, u)
    # Turns beyond 180 degrees, six deviations away, would come out as other turns.
    assert found["degrees"].std().item() == pytest.approx(30, rel=0.01)
    assert found["shift_x"].std().item() == pytest.approx(3, rel=0.01)
    assert found["shift_y"].std().item() == pytest.approx(3, rel=0.01)
    assert 100 * found["scale_x"].log().std().item() == pytest.approx(10, rel=0.01)
    assert found["shear"].abs().max() < 1e-6


def test_u_reads_in_units_without_a_fit():
    """Counter-clockwise, to the right, downwards, larger: each latent is one unit."""
    model = training.new_model("similarity", SIZE, 2, 8, **EXPECTED)
    u = torch.randn(50, 4, generator=torch.Generator().manual_seed(1))
    found = units_of(model, u)
    wanted = {
        "degrees": 30 * u[:, 0],
        "shift_x": 3 * u[:, 1],
        "shift_y": 3 * u[:, 2],
        "scale_x": (0.1 * u[:, 3]).exp(),
        "scale_y": (0.1 * u[:, 3]).exp(),
    }
    for name, values in wanted.items():
        torch.testing.assert_close(found[name].float(), values, rtol=1e-4, atol=1e-4)


def test_the_picture_moves_as_u_says():
    """Seen in the pixels: a bar's centre of ink goes right and down, and its top to the left."""
    model = training.new_model("similarity", SIZE, 2, 8, **EXPECTED)
    bar = torch.zeros(1, 1, *SIZE)
    bar[..., 5:15, 14:16] = 1
    for u, wanted in {
        (0, 1, 0, 0): {"shift_x": 3, "shift_y": 0, "degrees": 0},
        (0, 0, -1, 0): {"shift_x": 0, "shift_y": -3, "degrees": 0},
        (0.5, 0, 0, 0): {"shift_x": 0, "shift_y": 0, "degrees": 15},
    }.items():
        theta = model.decoder.pose(torch.tensor([u], dtype=torch.float32)).detach()
        found = poses.moments(data.from_tensor(model.decoder.warp(bar, theta).clamp(0, 1)))
        for name, value in wanted.items():
            assert found[name].item() == pytest.approx(value, abs=0.3), (u, name)


@pytest.mark.parametrize(
    ("warp", "given", "n"), [("rotation", {"turn": 90}, 1), ("translation", {"shift": 2}, 2)]
)
def test_warps_with_fewer_units(warp, given, n):
    model = training.new_model(warp, SIZE, 2, 8, **given)
    found = units_of(model, torch.ones(1, n))
    assert found["degrees"].item() == pytest.approx(given.get("turn", 0), abs=1e-4)
    assert found["shift_x"].item() == pytest.approx(given.get("shift", 0), abs=1e-4)
    assert found["shift_y"].item() == pytest.approx(given.get("shift", 0), abs=1e-4)
    assert found["scale_x"].item() == pytest.approx(1)


def test_what_is_not_given_is_usual():
    model = training.new_model("similarity", SIZE, 2, 8, turn=0)
    found = units_of(model, torch.ones(1, 4))
    assert found["degrees"].item() == pytest.approx(0, abs=1e-5)
    assert found["shift_x"].item() == pytest.approx(2)
    assert found["scale_x"].item() == pytest.approx(math.exp(0.15))


def test_training_changes_the_map_unless_it_is_fixed():
    bar = torch.zeros(24, 1, 10, 12)
    bar[:, :, 2:8, 5:7] = 1
    images = moved.moved(data.from_tensor(bar), Moves(degrees=40, shift=1))
    for fixed in (False, True):
        start = training.new_model("similarity", (10, 12), 2, 8, **EXPECTED, fixed=fixed)
        trained = training.train(images, epochs=2, dim_z=2, hidden=8, **EXPECTED, fixed=fixed)
        pose = trained.model.decoder.pose
        assert pose.weight.equal(start.decoder.pose.weight) == fixed
        assert pose.bias.any().item() != fixed
        assert poses.table(trained.model, images)["degrees"].isfinite().all()


def test_what_is_refused():
    for options, sentence in {
        ("affine", ("turn", 3.0)): "one of the warps translation, rotation, similarity",
        ("rotation", ("shift", 3.0)): "the warp 'rotation' has no shift; it has turn",
        ("similarity", ("scale", -1.0)): "scale is a standard deviation, at least 0; got -1.0",
        ("similarity", ("fixed", True)): "needs at least one of turn, shift and scale",
    }.items():
        with pytest.raises(ValueError, match=sentence):
            training.new_model(options[0], SIZE, 2, 8, **dict([options[1]]))
    assert expected.UNITS.keys() < {*training.POSED}
