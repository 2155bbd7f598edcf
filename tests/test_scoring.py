"""Models of this book and others are scored on pictures whose poses are known."""

import dataclasses
import functools

import pytest
import torch

from tvae_core import data, models, moved, poses, scores
from tvae_core.data import Images
from tvae_core.experiments import scoring, turns
from tvae_core.experiments.scoring import MOMENTS, Reader
from tvae_core.experiments.turns import QuarterTurns
from tvae_core.moved import FAMILY, Moves
from tvae_core.runtime import seeded


@functools.cache
def letters(n: int, pose_seed: int, moves: Moves = FAMILY) -> Images:
    return moved.glyphs(n, moves, seed=3, pose_seed=pose_seed)


def pair(n: int = 200, moves: Moves = FAMILY) -> list[Images]:
    return [letters(n, pose_seed, moves) for pose_seed in (1, 2)]


def true_poses(images: Images, _: Images) -> torch.Tensor:
    return images.maps


def class_and_pose(images: Images) -> dict[str, torch.Tensor]:
    """Features that hold what they should: z the class, and u the pose."""
    z = torch.nn.functional.one_hot(images.labels, 26).float()
    return {"z": z, "u": images.maps.flatten(1)}


def test_a_model_that_is_told_everything_has_the_best_scores():
    found = scoring.score(Reader(true_poses, class_and_pose), *pair(600))
    for kind in ("moves", "poses"):
        assert found[kind]["degrees"]["error"] < 1e-3
        assert found[kind]["degrees"]["correlation"] > 0.999
        assert found[kind]["shift_x"]["error"] < 1e-3
    z, u = (found["contents"][name] for name in ("z", "u"))
    assert z["linear"] > 0.99
    assert u["linear"] < 0.15
    assert z["turn"] < 0.05 < 0.95 < u["turn"]
    assert z["shift"] < 0.05 < 0.95 < u["shift"]
    assert found["contents"]["latents"]["informativeness"] > 0.9


def test_turns_are_compared_up_to_the_period():
    half = torch.tensor([[-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])

    def upside_down(images, _):
        return poses.compose(images.maps, half)

    error = {
        period: scoring.score_poses(Reader(upside_down, class_and_pose, period), *pair())
        for period in (180, 360)
    }
    assert error[180]["poses"]["degrees"]["error"] < 1e-3
    assert error[360]["poses"]["degrees"]["error"] == pytest.approx(180, abs=1e-3)
    assert error[360]["moves"]["degrees"]["error"] < 1e-3, "half a turn in both poses cancels"


def test_poses_are_measured_from_the_first_pictures_for_both():
    references = []

    def noted(images, reference):
        references.append((images, reference))
        return images.maps

    first, second = pair()
    scoring.score_poses(Reader(noted, class_and_pose), first, second)
    assert [tuple(map(id, row)) for row in references] == [
        (id(first), id(first)),
        (id(second), id(first)),
    ]


def test_the_baseline_follows_every_move_of_a_letter():
    found = scoring.score_poses(MOMENTS, *pair())
    assert found["moves"]["degrees"]["error"] < 1
    assert found["moves"]["degrees"]["correlation"] > 0.95
    # Its axis leans with the letter, so that it does not know which way is up.
    assert found["poses"]["degrees"]["error"] > 3


def test_the_baselines_zero_is_the_mean_axis():
    first, _ = pair()
    plain = poses.decompose(scoring.axes(first, first))
    twice = torch.deg2rad(2 * plain["degrees"])
    assert torch.atan2(twice.sin().mean(), twice.cos().mean()).abs() < 1e-3
    # If all pictures are turned by the same angle, nothing changes but where they lie.
    turned = dataclasses.replace(first, pixels=first.pixels.rot90(1, (-2, -1)))
    after = poses.decompose(scoring.axes(turned, turned))
    off = (after["degrees"] - plain["degrees"] + 90) % 180 - 90
    assert off.abs().max() < 0.1
    for name in ("scale_x", "scale_y"):
        torch.testing.assert_close(after[name], plain[name], rtol=1e-3, atol=1e-3)
    # Measured from pictures that lie otherwise, each turn changes by the same angle.
    crossed = poses.decompose(scoring.axes(turned, first))
    off = (crossed["degrees"] - plain["degrees"]) % 180
    assert (off - 90).abs().max() < 0.1


def test_the_pose_scores_of_shuffled_pictures_are_chance():
    first, second = pair(500)
    other = torch.arange(500).roll(7)  # both pictures of each letter, so that their poses differ
    shuffled = [
        dataclasses.replace(each[other], maps=each.maps, labels=None) for each in (first, second)
    ]
    found = scoring.score_poses(MOMENTS, *shuffled)["moves"]["degrees"]
    assert abs(found["correlation"]) < 0.2
    assert found["error"] > 10


def test_contents_are_probed_for_class_and_pose():
    first, _ = pair(600)
    (found,) = scoring.score_contents(MOMENTS, first).values()
    seen = data.binarize_fixed(first)
    assert found["linear"] == scores.probes(seen.x.flatten(1), first.labels).linear
    assert found["variance"] == scores.within_class_variance(seen.x, first.labels)
    shuffled = dataclasses.replace(first, maps=first.maps.roll(1, 0))
    nothing = scoring.score_contents(MOMENTS, shuffled)["pixels"]
    for probe in ("turn", "shift"):
        assert nothing[probe] < 0.05 < found[probe]


@pytest.mark.parametrize("name", ["plain", "affine", "quarter turns"])
def test_a_model_of_this_book_is_scored_in_one_call(name):
    with seeded(0):
        model = models.build("plain" if name == "plain" else "affine", (32, 32))
    first, second = (dataclasses.replace(each, labels=each.labels % 4) for each in pair())
    if name == "quarter turns":
        model = QuarterTurns(model)
        with seeded(1):
            expected = turns.maps(model, *[data.binarize_fixed(first)] * 2)
    elif name == "affine":
        expected = poses.maps(model, *[data.binarize_fixed(first)] * 2)
    with seeded(1):
        found = scoring.score(model, first, second)
    assert ("moves" in found) == (name != "plain")
    warped = {"u", "canonical", "straightened"} if name != "plain" else set()
    assert set(found["contents"]) == {"pixels", "z", "latents", *warped}
    if name != "plain":
        upright = torch.eye(2, 3).expand(200, 2, 3)
        score = scores.moves(upright, expected, first.maps)["degrees"]
        assert found["poses"]["degrees"] == pytest.approx(score._asdict(), abs=1e-4)


def test_what_cannot_be_scored_is_a_clear_error():
    first, second = pair()
    bare = dataclasses.replace(first, maps=None)
    plain = scoring.reader_of(models.build("plain", (32, 32)))
    with pytest.raises(ValueError, match=r"make some with `tvae_core.moved`"):
        scoring.score(MOMENTS, bare, second)
    with pytest.raises(ValueError, match="have no labels"):
        scoring.score_contents(MOMENTS, dataclasses.replace(first, labels=None))
    with pytest.raises(ValueError, match="no poses to score; score its contents"):
        scoring.score_poses(plain, first, second)
