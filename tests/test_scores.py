"""Each score takes its known value on data made for it, and chance where nothing is to be found."""

import math

import pytest
import torch
from test_poses import by_hand, identity, model_of, numbered

from tvae_core import moved, poses, scores
from tvae_core.moved import Moves
from tvae_core.runtime import seeded

MOVES = Moves(degrees=60, shift=4, scale=1.4, shear=0.3)


def drawn(n: int, seed: int, moves: Moves = MOVES) -> torch.Tensor:
    return moves.draw(n, torch.Generator().manual_seed(seed))


def test_moves_that_are_inferred_exactly_score_one_whatever_the_pose_before(subtests):
    before, true = drawn(300, 0), drawn(300, 1)
    for name, score in scores.moves(before, poses.compose(true, before), true).items():
        with subtests.test(name):
            assert score.correlation == pytest.approx(1, abs=1e-4)
            assert score.error < 2e-3


def test_moves_of_other_images_score_nothing(subtests):
    n = 2_000
    before, true = drawn(n, 0), drawn(n, 1)
    after = poses.compose(true, before)
    for name, score in scores.moves(before, after, true.roll(1, 0)).items():
        with subtests.test(name):
            assert abs(score.correlation) < 4.5 / math.sqrt(n)
    errors = {n: s.error for n, s in scores.moves(before, after, true.roll(1, 0)).items()}
    # The median distance of two uniform numbers on +-r is r (2 - sqrt 2).
    assert errors["degrees"] == pytest.approx(60 * (2 - math.sqrt(2)), rel=0.1)
    assert errors["shift_x"] == pytest.approx(4 * (2 - math.sqrt(2)), rel=0.1)
    assert errors["scale_x"] == pytest.approx(math.log(1.4) * (2 - math.sqrt(2)), rel=0.1)


def test_errors_are_in_degrees_and_pixels():
    n, true = 4_000, drawn(4_000, 1, Moves(degrees=90, shift=5))
    known = poses.decompose(true)
    with seeded(0):
        noise = torch.randn(2, n)
    names = ("degrees", "shift_x", "shift_y", "scale_x", "scale_y", "shear")
    found = {name: known[name].tolist() for name in names}
    found["degrees"] = (known["degrees"] + 3 * noise[0]).tolist()
    found["shift_x"] = (known["shift_x"] + 0.5 * noise[1]).tolist()
    score = scores.moves(identity(n), by_hand(found), true)
    assert score["degrees"].error == pytest.approx(0.6745 * 3, rel=0.06)
    assert score["shift_x"].error == pytest.approx(0.6745 * 0.5, rel=0.06)
    assert score["shift_y"].error < 1e-3
    # Pearson: the root of the share of variance that is not noise.
    variance = known["shift_x"].var().item()
    expected = math.sqrt(variance / (variance + 0.25))
    assert score["shift_x"].correlation == pytest.approx(expected, abs=0.003)
    assert math.isnan(score["scale_x"].correlation)  # nothing was scaled


def test_angles_are_compared_on_the_circle():
    """Half-turns that are off by two degrees, to either side of 180."""
    n = 500
    flat = {"shift_x": [0.0] * n, "shift_y": [0.0] * n, "scale_x": [1.0] * n, "scale_y": [1.0] * n}
    angles = torch.linspace(-180, 180, n)
    true = by_hand({"degrees": angles.tolist(), **flat, "shear": [0.0] * n})
    after = by_hand({"degrees": (angles + 2).tolist(), **flat, "shear": [0.0] * n})
    score = scores.moves(identity(n), after, true)["degrees"]
    assert score.error == pytest.approx(2, abs=1e-2)
    assert score.correlation == pytest.approx(1, abs=1e-3)
    true, after = (
        by_hand({"degrees": [angle] * n, **flat, "shear": [0.0] * n}) for angle in (179.0, 181.0)
    )
    assert scores.moves(identity(n), after, true)["degrees"].error == pytest.approx(2, abs=1e-2)


def test_the_correlation_of_full_turns_does_not_depend_on_chance():
    """Angles all around the circle have no mean direction, and that of a sample is chance."""
    n, wrong = 2_000, 200
    half = torch.tensor([[-1.0, 0, 0], [0, -1, 0]]).expand(wrong, 2, 3)
    for seed in range(10):
        true = drawn(n, seed, Moves(degrees=180))
        after = true.clone()
        after[:wrong] = poses.compose(half, true[:wrong])
        found = scores.moves(identity(n), after, true)["degrees"].correlation
        assert found == pytest.approx(1 - 2 * wrong / n, abs=0.06)
    never = scores.moves(identity(n), identity(n), true)["degrees"]
    assert math.isnan(never.correlation)


def test_turns_of_an_axis_are_compared_up_to_half_a_turn():
    true = drawn(300, 1, Moves(degrees=80))
    half = torch.tensor([[-1.0, 0, 0], [0, -1, 0]])
    flipped = true.clone()
    flipped[::2] = poses.compose(half.expand(150, 2, 3), true[::2])
    axis, arrow = (scores.moves(identity(300), flipped, true, p)["degrees"] for p in (180, 360))
    assert axis.correlation == pytest.approx(1, abs=1e-4)
    assert axis.error < 1e-3
    assert arrow.correlation < 0.2


def test_errors_of_scales_are_in_logarithms():
    """Twice as large is as far off as half as large."""
    n, right = 4, {"degrees": [0.0] * 4, "shift_x": [0.0] * 4, "shift_y": [0.0] * 4}
    for factor in (0.5, 2.0):
        scaled = {"scale_x": [factor] * n, "scale_y": [1.0] * n, "shear": [0.0] * n}
        score = scores.moves(identity(n), by_hand({**right, **scaled}), identity(n))
        assert score["scale_x"].error == pytest.approx(math.log(2), abs=1e-5)
        assert score["scale_y"].error < 1e-6


def test_the_gauge_of_a_model_cancels():
    """A model that infers the right poses, up to a turn of all its canonical images."""
    images, before = numbered(40), drawn(40, 2)
    true = drawn(40, 3)
    turn = by_hand({k: [v] for k, v in zip(
        ("degrees", "shift_x", "shift_y", "scale_x", "scale_y", "shear"),
        (70.0, 2.0, 0.0, 1.2, 0.9, 0.2), strict=True,
    )})  # fmt: skip
    own = poses.maps(model_of(poses.compose(before, turn)), images)
    moved = model_of(poses.compose(poses.compose(true, before), turn))
    # Both measured from the mean pose of the first set, as seen by the same canonical images.
    reference = model_of(poses.compose(before, turn))
    origin = poses.mean_map(reference, images)
    after = poses.relative(
        moved.encoder.u.unflatten(-1, (2, 3)) + torch.eye(2, 3), origin, images.size
    )
    for name, score in scores.moves(own, after, true).items():
        assert score.correlation == pytest.approx(1, abs=1e-3), name


def test_different_numbers_of_images_are_refused():
    with pytest.raises(ValueError, match="got 3, 4 and 4"):
        scores.moves(identity(3), identity(4), identity(4))
    with pytest.raises(ValueError, match="at least 3 images; got 2"):
        scores.moves(identity(2), identity(2), identity(2))


def classes(n: int, distance: float, k: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """k classes of unit normals in k dimensions, whose means are `distance` apart."""
    with seeded(0):
        labels = torch.arange(n) % k
        x = torch.randn(n, k) + distance / math.sqrt(2) * torch.eye(k)[labels]
    return x, labels


def test_distant_classes_are_predicted_without_error():
    assert scores.probes(*classes(400, 20.0)) == (1, 1, 1)


def test_two_normals_are_separated_as_well_as_possible():
    """The best rule for two classes at distance d is right with probability Phi(d / 2)."""
    x, labels = classes(4_000, 2.0, k=2)
    found = scores.probes(x, labels)
    best = 0.5 * (1 + math.erf(1 / math.sqrt(2)))
    assert abs(found.linear - best) < 4.5 * math.sqrt(best * (1 - best) / 4_000)
    assert best - 0.06 < found.neighbours < best


def test_shuffled_labels_give_chance():
    x, labels = classes(2_000, 20.0)
    with seeded(1):
        shuffled = labels[torch.randperm(len(labels))]
    found = scores.probes(x, shuffled)
    error = math.sqrt(0.25 * 0.75 / 2_000)
    assert abs(found.neighbours - 0.25) < 4.5 * error
    assert abs(found.linear - 0.25) < 4.5 * error
    assert 0.25 < found.clusters < 0.25 + 8 * error  # the best of all matches, so above chance


def test_a_class_too_small_for_the_folds_is_refused():
    with pytest.raises(ValueError, match="two classes with 5 images each; got 2 classes, the smal"):
        scores.probes(torch.randn(10, 2), torch.tensor([0] * 7 + [1] * 3))


@pytest.mark.parametrize(
    "score",
    [
        lambda x, y: scores.probes(x, y[:, 0].long()),
        scores.explained,
        scores.dci,
        lambda x, y: scores.within_class_variance(x, y[:, 0].long()),
    ],
)
def test_features_that_cannot_be_scored_are_refused_in_a_sentence(score):
    x, y = torch.rand(20, 3), torch.arange(40.0).reshape(20, 2) % 4
    score(x, y)
    with pytest.raises(ValueError, match="a row for each image; got 20 and 19 rows"):
        score(x, y[1:])
    for bad in (math.nan, math.inf):
        spoilt = x.clone()
        spoilt[4, 1] = bad
        with pytest.raises(ValueError, match="NaN or infinite: leave these images out"):
            score(spoilt, y)


def test_targets_that_are_not_numbers_are_refused_too():
    for score in (scores.explained, scores.dci):
        with pytest.raises(ValueError, match="targets are NaN or infinite"):
            score(torch.rand(20, 3), torch.full((20, 2), math.nan))


def test_the_explained_share_of_variance_is_the_known_one():
    with seeded(2):
        x, noise = torch.randn(3_000, 5), torch.randn(3_000, 2)
    signal = x[:, :2] * 3
    both = signal + torch.tensor([1.0, 3.0]) * noise
    assert scores.explained(x, both) == pytest.approx((0.9 + 0.5) / 2, abs=0.03)
    assert scores.explained(x, signal) > 0.999
    assert scores.explained(x, both.roll(7, 0)) < 0.02


def test_a_forest_finds_what_is_not_linear_and_nothing_where_there_is_nothing():
    with seeded(0):
        x = torch.randn(1_000, 3)
    square = x[:, :1].square()
    linear, forest = (scores.explained(x, square, forest=f) for f in (False, True))
    assert linear < 0.05
    assert forest > 0.8
    assert scores.explained(x, square.roll(1, 0), forest=True) < 0.05
    both = torch.cat([square, x[:, 1:2]], 1)
    assert scores.explained(x, both, forest=True) > 0.8


def test_dci_of_latents_that_are_the_factors_and_of_mixed_ones():
    with seeded(3):
        factors = torch.randn(1_500, 3)
        noise = torch.randn(1_500, 3)
    own, two = scores.dci(factors, factors), factors[:, :2]
    assert min(own) > 0.95
    half = torch.tensor([[1.0, 1.0], [-1.0, 1.0]]) / math.sqrt(2)
    mixed = scores.dci(two @ half, two)  # each latent says as much about one factor as the other
    assert max(mixed.disentanglement, mixed.completeness) < 0.05
    assert mixed.informativeness > 0.95
    assert scores.dci(noise, factors).informativeness < 0.02
    # One factor in two latents: no longer complete, but each latent still describes one factor.
    doubled = scores.dci(torch.cat([factors[:, :2], factors[:, :2]], 1), factors[:, :2])
    assert doubled.disentanglement > 0.95 > doubled.completeness + 0.2
    with pytest.raises(ValueError, match="at least two latents and two factors, got 3 and 1"):
        scores.dci(factors, factors[:, :1])


def test_variance_within_classes_is_that_around_their_means():
    x, labels = classes(40_000, 20.0)
    assert scores.within_class_variance(x, labels) == pytest.approx(4, rel=0.03)
    assert scores.within_class_variance(x, torch.zeros_like(labels)) > 100


def test_features_are_the_means_of_q(subtests):
    images = numbered(5)
    model = model_of(drawn(5, 0))
    found = scores.features(model, images)
    assert set(found) == {"pixels", "z", "u", "canonical"}
    assert torch.equal(found["pixels"], images.x.flatten(1))
    mean = model.posterior(images.x).mean
    torch.testing.assert_close(torch.cat([found["z"], found["u"]], 1), mean)
    torch.testing.assert_close(found["canonical"], model.canonical(mean).flatten(1).detach())


def test_true_poses_are_explained_whatever_the_gauge():
    """Poses that are right up to one map explain everything, and those of other images nothing."""
    true = drawn(200, 0, Moves(degrees=180, shift=3, scale=1.3, shear=0.3))
    gauge = torch.tensor([[0.8, 0.3, 2.0], [-0.5, 1.1, -1.0]]).expand(200, 2, 3)
    found = poses.compose(true, gauge)
    assert scores.explained_poses(found, true) == pytest.approx(dict.fromkeys(poses.UNITS, 1.0))
    others = scores.explained_poses(found.roll(1, 0), true)
    assert max(others.values()) < 0.1


def test_poses_with_noise_explain_the_rest():
    true = drawn(4_000, 0, Moves(shift=3))
    noise = torch.zeros(4_000, 2, 3)
    with seeded(0):
        noise[..., 0, 2] = torch.randn(4_000)  # shifts on +-3 have variance 3, this has 1
    shares = scores.explained_poses(true + noise, true)
    assert shares["shift_x"] == pytest.approx(2 / 3, abs=0.03)
    assert shares["shift_y"] == pytest.approx(1)
    assert math.isnan(shares["degrees"])


def test_a_gauge_needs_several_poses():
    with pytest.raises(ValueError, match="at least 6; got 5 and 5"):
        scores.explained_poses(drawn(5, 0), drawn(5, 0))


def test_a_constant_target_is_refused():
    with seeded(0):
        x, constant = torch.randn(60, 3), torch.cat([torch.randn(60, 1), torch.zeros(60, 1)], 1)
    for score in (scores.explained, scores.dci):
        with pytest.raises(ValueError, match="a constant target: leave out column 1"):
            score(x, constant)


def test_poses_that_are_not_numbers_are_refused():
    good, bad = drawn(8, 0), drawn(8, 0)
    bad[3, 0, 2] = math.nan
    with pytest.raises(ValueError, match="some poses are NaN or infinite"):
        scores.moves(good, good, bad)
    for pair in ((good, bad), (bad, good)):
        with pytest.raises(ValueError, match="some poses are NaN or infinite"):
            scores.explained_poses(*pair)


def test_moves_take_maps_of_any_precision():
    first, second = (moved.glyphs(20, moved.FAMILY, seed=0, pose_seed=p).maps for p in (0, 1))
    true = poses.compose(second, poses.inverse(first))
    for maps in ((first.double(), second, true), (first, second.double(), true.double())):
        assert scores.moves(*maps)["degrees"].error < 1e-3
