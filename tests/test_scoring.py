"""Models of this book and others are scored on pictures whose poses are known."""

import dataclasses
import functools

import pytest
import torch

from tvae_core import data, models, moved, poses, scores
from tvae_core.data import Images
from tvae_core.diagnostics import Mixture
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
    assert found["moves"]["degrees"]["error"] < 6  # less than one on gray pixels
    assert found["moves"]["degrees"]["correlation"] > 0.8
    # Its axis leans with the letter, so that it does not know which way is up.
    assert found["poses"]["degrees"]["error"] > 3


def test_the_baselines_zero_is_the_mean_axis():
    gray, _ = pair()
    first = data.binarize_fixed(gray)  # pixels that stay what they are when a picture is turned
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


def test_the_baseline_sees_the_binary_pixels_that_the_models_see():
    gray, _ = pair()
    seen = data.binarize_fixed(gray)
    torch.testing.assert_close(scoring.axes(gray, gray), scoring.axes(seen, seen), rtol=0, atol=0)


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


def test_what_does_not_vary_is_left_out(subtests, recwarn):
    for moves, left in {
        moved.Moves(degrees=20): {"turn", "turn_forest"},
        moved.Moves(shift=3): {"shift"},
        moved.Moves(degrees=20, shift=3): {"turn", "turn_forest", "shift"},
    }.items():
        with subtests.test(moves=moves), seeded(0):
            letters = moved.glyphs(300, moves)
            reader = Reader(None, lambda images: {"z": torch.randn(300, 2)})
            found = scoring.score_contents(reader, letters)
            known = {"turn", "turn_forest", "shift"}
            assert {*found["z"]} & known == left
            assert ("latents" in found) == (left == known)
            assert all(value == value for value in found["z"].values())
    assert not [warning for warning in recwarn if "invalid value" in str(warning.message)]


def test_the_style_is_probed_where_it_is_known():
    letters = moved.glyphs(600, moved.Moves(degrees=20), seed=1)
    kept = letters.styles[:, None].double()
    reader = Reader(None, lambda images: {"face": kept, "noise": torch.rand(600, 2)})
    with seeded(0):
        found = scoring.score_contents(reader, letters)
    assert found["face"]["style"] > 0.9 > found["face"]["linear"]
    assert found["noise"]["style"] < 1.6 / len(moved.FACES)
    for styles in (None, torch.zeros(600).long(), torch.arange(600).clamp(max=1)):
        unknown = dataclasses.replace(letters, styles=styles)
        assert "style" not in scoring.score_contents(reader, unknown)["face"]


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
    assert ("moves" in found) == ("explained" in found) == (name != "plain")
    warped = {"u", "canonical", "straightened"} if name != "plain" else set()
    assert set(found["contents"]) == {"pixels", "z", "latents", *warped}
    if name != "plain":
        upright = torch.eye(2, 3).expand(200, 2, 3)
        score = scores.moves(upright, expected, first.maps)["degrees"]
        assert found["poses"]["degrees"] == pytest.approx(score._asdict(), abs=1e-4)


def test_a_model_that_knows_its_errors_covers_as_many_moves_as_a_normal(monkeypatch):
    """Its errors are normal, with other deviations before and after."""
    first, second = pair(2_000)
    deviations = iter((1.0, 3.0))
    rng = torch.Generator().manual_seed(0)

    def table(model, images, reference):
        sd, columns = next(deviations), {}
        for unit, true in poses.decompose(images.maps).items():
            columns[unit] = true + sd * torch.randn(len(images), generator=rng)
            columns[f"{unit}_sd"] = torch.full((len(images),), sd)
        columns["degrees"] = columns["degrees"] + 360  # the same angle
        return poses.Poses(columns)

    monkeypatch.setattr(poses, "table", table)
    monkeypatch.setattr(scoring, "reader_of", lambda model: Reader(true_poses, None))
    with seeded(0):
        found = scoring.score(models.build("affine", (32, 32)), first, second)
    for unit in poses.UNITS:
        assert found["moves"][unit]["covered"] == pytest.approx(0.954, abs=0.015)
    assert found["explained"]["degrees"] == pytest.approx(1)


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


def not_read(*_):
    pytest.fail("poses or features were read first")


UNREAD = Reader(not_read, not_read)


def few(n: int = 60) -> list[Images]:
    """Pictures of three classes."""
    return [dataclasses.replace(each, labels=each.labels % 3) for each in pair(n)]


def mixture() -> Mixture:
    """It has posteriors, but is no model: `evaluation.nll` takes it."""
    model = models.build("affine", (32, 32), hidden=(4,))
    return Mixture(model, [model.encoder])


@pytest.mark.parametrize("of", [scoring.score, scoring.score_poses, scoring.score_contents])
@pytest.mark.parametrize("model", ["affine", torch.nn.Linear(2, 2), None, mixture()])
def test_a_model_from_elsewhere_needs_a_reader(of, model):
    kind = type(model).__name__
    pictures = few()[:1] if of is scoring.score_contents else few()
    with pytest.raises(TypeError, match=f"cannot score a {kind}: pass a VAE .* scoring.Reader"):
        of(model, *pictures)


def test_a_model_of_this_book_needs_no_reader_for_a_part_of_the_scores():
    with seeded(0):
        model = models.build("affine", (32, 32), hidden=(4,))
    first, second = few()
    found = scoring.score_poses(model, first, second)
    of_reader = scoring.score_poses(scoring.reader_of(model), first, second)
    assert str(found) == str(of_reader)  # with NaN, which is equal to nothing
    assert "straightened" in scoring.score_contents(model, first)


@pytest.mark.parametrize("of", [scoring.score, scoring.score_poses])
def test_pictures_that_are_no_pair_are_refused_before_they_are_read(of):
    first, second = few()
    same = "before and after must show the same things in the same order"
    with pytest.raises(ValueError, match=f"{same}, got 60 pictures and 59"):
        of(UNREAD, first, second[:-1])
    others = dataclasses.replace(second, labels=second.labels.roll(1))
    n = int((others.labels != first.labels).sum())
    with pytest.raises(ValueError, match=f"{same}, but {n} of 60 labels differ"):
        of(UNREAD, first, others)
    for name, images in {"before": (first.x, second), "after": (first, second.x)}.items():
        with pytest.raises(ValueError, match=f"^{name} must be data.Images"):
            of(UNREAD, *images)
    with pytest.raises(ValueError, match="poses of these pictures are not known"):
        of(UNREAD, first, dataclasses.replace(second, maps=None))


@pytest.mark.parametrize(
    "of", [scoring.score, lambda r, first, _: scoring.score_contents(r, first)]
)
def test_what_probes_cannot_learn_is_refused_before_it_is_read(of):
    first, second = few()
    with pytest.raises(ValueError, match="these have no labels"):
        of(UNREAD, dataclasses.replace(first, labels=None), second)
    with pytest.raises(ValueError, match=r"must be data\.Images"):
        of(UNREAD, first.x, second)
    labels = torch.ones(60).long()
    for wrong, words in {0: "1, the smallest with 60", 4: "2, the smallest with 4"}.items():
        alike = [dataclasses.replace(each, labels=labels.clone()) for each in (first, second)]
        for each in alike:
            each.labels[:wrong] = 7
        with pytest.raises(ValueError, match=f"two classes with 5 pictures each; got {words}"):
            of(UNREAD, *alike)


def test_a_reader_may_have_poses_alone():
    first, second = (dataclasses.replace(each, labels=None) for each in few())
    reader = Reader(true_poses, None)
    found = scoring.score(reader, first, second)
    del found["explained"]
    assert str(found) == str(scoring.score_poses(reader, first, second))
    with pytest.raises(ValueError, match="no features to probe; score its poses"):
        scoring.score_contents(reader, first)
    with pytest.raises(ValueError, match="has neither maps nor features"):
        scoring.score(Reader(None, None), first, second)


def test_poses_that_a_reader_cannot_tell_are_counted():
    def unsure(images, reference):
        maps = images.maps.clone()
        if images is not reference:  # of the second pictures
            maps[:3, 0, 2] = float("nan")
            maps[3, 0, 0] = float("inf")
        return maps

    with pytest.raises(ValueError, match="maps: NaN or infinite for 4 of 60 pictures; leave"):
        scoring.score(Reader(unsure, not_read), *few())


@pytest.mark.parametrize(
    ("maps", "words"),
    [
        (lambda images, _: images.maps[1:], "have a row for each of 60 pictures, got 59 rows"),
        (lambda images, _: images.maps[:, :, :2], r"be a Float tensor \(N, 2, 3\), got Tensor"),
        (lambda images, _: images.maps.numpy(), r"be a Float tensor \(N, 2, 3\), got ndarray"),
    ],
)
def test_maps_of_another_shape_are_refused(maps, words):
    with pytest.raises((ValueError, TypeError), match=f"the Reader's maps must {words}"):
        scoring.score(Reader(maps, not_read), *few())


@pytest.mark.parametrize(
    ("features", "words"),
    [
        (lambda images: images.x.flatten(1), "the Reader's features must be a dict, got Tensor"),
        (
            lambda images: {"z": images.x[1:].flatten(1)},
            "the feature 'z' must have a row for each of 60 pictures, got 59 rows",
        ),
        (lambda images: {"z": images.x}, r"'z' must be a Float tensor \(N, D\), got Tensor of .*"),
        (
            lambda images: {"z": images.maps.flatten(1) / torch.arange(60)[:, None]},
            "the feature 'z': NaN or infinite for 1 of 60 pictures",
        ),
    ],
)
def test_features_of_another_kind_are_refused_before_any_is_probed(features, words, monkeypatch):
    monkeypatch.setattr(scores, "probes", not_read)

    def with_a_good_one(images):
        found = features(images)
        return {"pixels": images.x.flatten(1), **found} if isinstance(found, dict) else found

    with pytest.raises((ValueError, TypeError), match=words):
        scoring.score(Reader(true_poses, with_a_good_one), *few())


def test_a_reader_need_not_detach_what_it_returns():
    one = torch.ones(1, requires_grad=True)

    def poses_of(images, _):
        return images.maps * one

    def features(images):
        return {"z": images.maps.flatten(1) * one}

    def detached(images):
        return {"z": images.maps.flatten(1)}

    expected = scoring.score(Reader(true_poses, detached), *few())
    assert str(scoring.score(Reader(poses_of, features), *few())) == str(expected)


@pytest.mark.parametrize("u", [False, True])
def test_a_single_latent_has_no_dci(u):
    def features(images):
        maps = images.maps
        return {"z": maps[:, 0, :1], **({"u": maps[:, 1]} if u else {})}

    found = scoring.score_contents(Reader(None, features), few()[0])
    assert set(found) == {"z", *(("u", "latents") if u else ())}


def test_poses_in_double_precision_are_scored_like_others():
    first, second = (moved.glyphs(40, FAMILY, seed=0, pose_seed=p) for p in (0, 1))
    found = [
        scoring.score_poses(scoring.Reader(lambda x, _, k=kind: x.maps.to(k), None), first, second)
        for kind in (torch.float32, torch.float64)
    ]
    for each in found:
        assert each["moves"]["degrees"]["error"] < 1e-3


def test_a_decoder_of_ones_own_needs_a_reader():
    model = models.build("affine", (8, 8), 2, 6, hidden=(4,))
    model.decoder = torch.nn.Identity()
    with pytest.raises(
        TypeError, match=r"poses of a Identity cannot be read.*pass a scoring.Reader"
    ):
        scoring.reader_of(model)
