"""A latent for quarter turns: probabilities, gradients and poses of a model that may turn."""

import itertools
import math
import re

import pytest
import torch
from torch import Tensor

from tvae_core import (
    ais,
    bounds,
    data,
    diagnostics,
    estimators,
    evaluation,
    models,
    moved,
    poses,
    scores,
)
from tvae_core.experiments import turns, where
from tvae_core.experiments.turns import QuarterTurns
from tvae_core.runtime import seeded


def tiny(size: int = 3, look: str = "straight", pose_std: float = 0.3) -> QuarterTurns:
    """An untrained model, with a decoder so strong that a turn changes p(x)."""
    with seeded(0):
        model = models.build(
            "affine", (size, size), 2, 2, hidden=(6,), look=look, pose_std=pose_std
        )
    for parameter in model.decoder.canonical.parameters():
        parameter.data *= 2
    return QuarterTurns(model)


def test_what_needs_one_posterior_refuses_a_model_with_quarter_turns():
    model, images = tiny(), data.from_tensor(torch.zeros(3, 1, 3, 3))
    with pytest.raises(TypeError, match=r"model\.base"):
        ais.ais(model, images.x, 4, 2)
    with pytest.raises(TypeError, match="a plain VAE, got QuarterTurns"):
        diagnostics.with_gray_density(model)
    with pytest.raises(ValueError, match="at least two draws, got 1"):
        turns.table(model, images, draws=1)


def test_a_model_that_shares_networks_has_its_prior_where_they_are_and_in_their_precision():
    """As after a move to a GPU, which moves the networks in place."""
    model = tiny().double()
    assert model.base.sample_latents(2).dtype == torch.float64
    gray = diagnostics.with_gray_density(model.base)
    model.to("meta")
    assert model.base.sample_latents(2).is_meta
    assert gray.sample_latents(2).is_meta


def test_the_error_of_an_nll_counts_the_draws_of_all_four_turns():
    images = data.from_tensor(torch.rand(5, 1, 3, 3).round())
    with seeded(0):
        found = evaluation.nll(tiny(), images, 50)
    torch.testing.assert_close(found.se, (1 / found.ess - 1 / 200).sqrt())


def test_an_nll_curve_sums_over_the_turns_of_each_draw():
    images, model = data.from_tensor(torch.rand(5, 1, 3, 3).round()), tiny()
    with seeded(0):
        curve = diagnostics.nll_curve(model, images, (1, 40))
    with seeded(0):
        found = evaluation.nll(model, images, 40)  # from the same draws
    torch.testing.assert_close(curve.nll[-1].float(), found.nll)
    with seeded(0):
        log_w = model.particles(images.x, 40).log_w.view(40, turns.QUARTERS, 5)
    each = math.log(turns.QUARTERS) - log_w.logsumexp(1)
    torch.testing.assert_close(curve.nll[0].float(), each.mean(0))


def all_images(size: int) -> Tensor:
    pixels = itertools.product((0.0, 1.0), repeat=size * size)
    return torch.tensor(list(pixels)).view(-1, 1, size, size)


def nll(model: models.VAE, x: Tensor, n: int = 4_000) -> evaluation.NLL:
    with seeded(1):
        return evaluation.nll(model, data.from_tensor(x), n)


@pytest.mark.parametrize("look", ["once", "straight"])
def test_the_probabilities_of_all_images_sum_to_one(look):
    assert nll(tiny(2, look), all_images(2)).nll.neg().exp().sum() == pytest.approx(1, abs=0.02)


def test_p_is_the_mean_over_the_four_turns_and_does_not_change_with_a_turn():
    model, x = tiny(), all_images(3)[torch.arange(3, 500, 41)]
    found = nll(model, x)
    each = torch.stack([nll(model.base, back).nll for back in turns.each_quarter(x)])
    mean = math.log(4) - each.neg().logsumexp(0)
    assert ((found.nll - mean).abs() < 6 * found.se).all()
    assert found.se.max() < 0.2 < each.std(0).median()
    for r in (1, 2, 3):
        turned = nll(model, x.rot90(r, (-2, -1)))
        assert ((turned.nll - found.nll).abs() < 6 * found.se).all()


def test_each_quarter_undoes_its_turn():
    x = torch.rand(5, 1, 4, 4)
    for r in range(4):
        assert torch.equal(turns.each_quarter(x.rot90(r, (-2, -1)))[r], x)
    with pytest.raises(ValueError, match="square pictures, got \\(4, 5\\)"):
        turns.each_quarter(torch.rand(5, 1, 4, 5))


def test_particles_are_k_for_each_turn_and_score_the_picture_turned_back():
    model, x = tiny(), all_images(3)[100:107]
    with seeded(0), torch.no_grad():
        particles = model.particles(x, 3)
    assert particles.log_w.shape == (12, 7)
    by_turn = particles.latents.unflatten(0, (3, 4))
    for r, back in enumerate(turns.each_quarter(x)):
        expected = model.decoder(by_turn[:, r]).log_prob(back)
        torch.testing.assert_close(particles.log_lik.unflatten(0, (3, 4))[:, r], expected)
        log_q = model.base.posterior(back).log_prob(by_turn[:, r]).sum(-1)
        torch.testing.assert_close(particles.log_q.unflatten(0, (3, 4))[:, r], log_q)


@pytest.mark.parametrize("look", ["once", "straight"])
def test_the_doubly_reparameterized_gradient_is_unbiased(look):
    """By a t-test against the reparameterized gradient, on a random projection."""
    model = tiny(look=look).double()
    x = all_images(3)[200:201].double().expand(400, -1, -1, -1)
    parameters = [*model.encoder.parameters()]
    with seeded(2):
        at = [torch.randn_like(p) for p in parameters]
        found = []
        for _ in range(100):
            pair = []
            for estimator in (estimators.dreg, estimators.reparameterized(bounds.iwae)):
                value = estimator(model.particles(x, 2)).mean()
                slopes = torch.autograd.grad(value, parameters)
                pair.append(sum((a * g).sum() for a, g in zip(at, slopes, strict=True)))
            found.append(torch.stack(pair))
    both = torch.stack(found)
    off = evaluation.mean_se(both[:, 0] - both[:, 1])
    assert abs(off.mean) < 4 * off.se
    assert off.se < both.mean().abs() / 6, "the test can tell"


@pytest.mark.parametrize("look", ["once", "straight"])
def test_the_path_derivative_holds_the_encoder(look):
    particles = tiny(look=look).particles(all_images(3)[:3], 2)
    still = particles._replace(latents=particles.latents.detach())
    assert particles.log_q_path.requires_grad
    assert not still.log_q_path.requires_grad
    torch.testing.assert_close(particles.log_q_path, particles.log_q)


def test_quarter_maps_are_what_rot90_does():
    letters = moved.glyphs(30, moved.Moves(), (32, 32))
    for r in range(4):
        turned = letters.pixels.rot90(r, (-2, -1))
        y, x = torch.meshgrid(*[torch.arange(32) - 15.5] * 2, indexing="ij")
        centre = [
            torch.stack([(p * axis).sum((-3, -2, -1)) for axis in (x, y)], -1)
            for p in (letters.pixels.float(), turned.float())
        ]
        linear = turns.quarter_maps(torch.tensor([r] * 30))[..., :2]
        torch.testing.assert_close((linear @ centre[0][..., None])[..., 0], centre[1])
        degrees = poses.decompose(turns.quarter_maps(torch.tensor([r])))["degrees"]
        assert (degrees - 90 * r) % 360 == pytest.approx(0, abs=1e-4)


def test_a_turned_picture_is_turned_back_and_its_pose_turns_with_it():
    model, images = tiny(4), data.from_tensor(all_images(4)[torch.arange(1, 65_000, 1_300)])
    upright = turned_back(model, images)
    best, second = upright.probabilities.sort(0, descending=True).values[:2]
    images = images[best > 3 * second]
    assert len(images) >= 10
    upright = turned_back(model, images)
    for r in (1, 2, 3):
        found = turned_back(model, data.from_tensor(images.x.rot90(r, (-2, -1))))
        assert torch.equal(found.quarter, (upright.quarter + r) % 4)
        assert torch.equal(found.back.pixels, upright.back.pixels)
        torch.testing.assert_close(
            found.probabilities, upright.probabilities.roll(r, 0), atol=0.25, rtol=0
        )
    fine = poses.maps(model.base, upright.back, upright.back)
    expected = poses.compose(turns.quarter_maps(upright.quarter), fine)
    with seeded(0):
        torch.testing.assert_close(
            turns.maps(model, images, images, 2_000), expected, atol=0.05, rtol=0
        )


def test_a_table_draws_the_quarter_turns_too():
    """Its first two moments, against the sum over r with its probabilities."""
    model = tiny(4, pose_std=0.05)
    images = data.from_tensor(all_images(4)[torch.arange(1, 65_000, 9_000)])
    with seeded(0):
        table = turns.table(model, images, images, draws=4_000)
    probabilities = turned_back(model, images).probabilities
    assert ((probabilities.max(0).values < 0.9).sum()) >= 3, "some are not sure"
    zero = poses.mean_map(model.base, turned_back(model, images).back)
    each = []
    for r, back in enumerate(turns.each_quarter(images.x)):
        with seeded(1), torch.no_grad():
            fine = poses.drawn(model.base, back, 4_000, zero)[0]
        each.append(poses.decompose(poses.compose(turns.quarter_maps(torch.tensor(r)), fine)))
    for name in ("shift_x", "shift_y"):
        by_r = torch.stack([units[name].mean(0) for units in each])
        square = torch.stack([units[name].square().mean(0) for units in each])
        mean = (probabilities * by_r).sum(0)
        sd = ((probabilities * square).sum(0) - mean**2).sqrt()
        torch.testing.assert_close(table[name], mean, atol=0.01, rtol=0)
        torch.testing.assert_close(table[f"{name}_sd"], sd, atol=0.02, rtol=0.02)
    angles = torch.stack([torch.exp(1j * units["degrees"].deg2rad()).mean(0) for units in each])
    mean = (probabilities * angles).sum(0)
    sd = torch.rad2deg((-2 * mean.abs().log()).sqrt())
    torch.testing.assert_close(table["degrees_sd"], sd, atol=3, rtol=0.1)


def test_a_turned_picture_is_aligned_as_the_picture_itself():
    model, images = tiny(4), data.from_tensor(all_images(4)[torch.arange(1, 65_000, 9_000)])
    best, second = turned_back(model, images).probabilities.sort(0, descending=True).values[:2]
    images = images[best > 3 * second]
    assert len(images) >= 2
    quarter = data.from_tensor(images.x.rot90(1, (-2, -1)))
    with seeded(0):
        aligned = turns.align(model, images, images, draws=2_000)
        others = [
            turns.align(model, quarter, images, draws=2_000),
            turns.align(model, images, quarter, draws=2_000),
        ]
    for other in others:
        for one, again in zip(aligned, other, strict=True):
            torch.testing.assert_close(one, again, atol=1e-5, rtol=0)


def test_the_posterior_over_the_turn_is_that_of_weighted_draws():
    """AIS and HMC against importance sampling with so many draws that it is exact enough."""
    model = tiny(4, pose_std=0.05)
    images = data.from_tensor(all_images(4)[torch.arange(1, 65_000, 30_000)])
    with seeded(3):
        found = turns.modes(model, images, images, n_distributions=60, chains=16, draws=10)
    assert found.degrees.shape == (160, 4, 3)
    torch.testing.assert_close(found.probabilities.sum(0), torch.ones(3))
    assert found.probabilities.std() > 0.05, "the test can tell"
    zero = poses.mean_map(model.base, turned_back(model, images).back)
    for r, back in enumerate(turns.each_quarter(images.x)):
        sampled = nll(model.base, back)
        off = (found.log_p[r] + sampled.nll).abs()
        assert (off < 5 * torch.hypot(found.se[r], sampled.se)).all()
        with seeded(4), torch.no_grad():
            particles = model.base.particles(back, 4_000)
            u = model.split(particles.latents)[1]
            maps = poses.relative(poses.maps_of(model.base, back, u)[0], zero, (4, 4))
        maps = poses.compose(turns.quarter_maps(torch.tensor(r)), maps)
        angle = torch.exp(1j * poses.decompose(maps)["degrees"].deg2rad())
        expected = (particles.log_w.softmax(0) * angle).sum(0)
        drawn = torch.exp(1j * found.degrees[:, r].deg2rad()).mean(0)
        assert torch.rad2deg((drawn / expected).angle()).abs().max() < 5
        spread = torch.rad2deg((-2 * torch.stack([expected, drawn]).abs().log()).sqrt())
        torch.testing.assert_close(spread[1], spread[0], atol=2, rtol=0.25)


def test_what_has_no_pose_is_refused_in_a_sentence():
    model, images = tiny(4), data.from_tensor(all_images(4)[:3])
    for act in (poses.table, poses.align):
        with pytest.raises(TypeError, match="poses of a QuarterTurns are not normal"):
            act(model, images)
    with pytest.raises(ValueError, match="one image has no mean pose to measure from"):
        turns.table(model, images[:1])
    with pytest.raises(TypeError, match="no mean over quarter turns: give turn_back"):
        scores.features(model, images)


@pytest.mark.parametrize(
    "act", [turns.turn_back, turns.table, turns.align, turns.maps, turns.modes]
)
def test_a_function_of_turns_says_what_it_needs(act, monkeypatch):
    model, images = tiny(4), data.from_tensor(all_images(4)[:3])
    monkeypatch.setattr(models.VAE, "particles", lambda *_: pytest.fail("it computed first"))
    monkeypatch.setattr(ais, "ais", lambda *_: pytest.fail("it computed first"))
    reference = () if act is turns.turn_back else (images,)
    sentence = "need a QuarterTurns, got a VAE; for any other model use poses.table"
    with pytest.raises(TypeError, match=sentence):
        act(model.base, images, *reference)
    large = data.from_tensor(torch.zeros(2, 1, 5, 5))
    wrong = re.escape("expected images of shape (B, 1, 4, 4), got (2, 1, 5, 5)")
    for given in [(large, *reference), *[(images, large) for _ in reference]]:
        with pytest.raises(ValueError, match=wrong):
            act(model, *given)
    with pytest.raises(ValueError, match=wrong):
        model.posterior(large.x)
    with pytest.raises(ValueError, match=r"images must be data\.Images"):
        act(model, images.x, *reference)
    if act is not turns.modes:
        with pytest.raises(ValueError, match="draws must be a whole number of at least 1, got 0"):
            act(model, images, *reference, draws=0)
    if act is turns.table:
        with pytest.raises(ValueError, match="nll_samples must be a whole number of at least 0"):
            act(model, images, *reference, nll_samples=-1)


def test_a_table_has_the_nll_if_it_is_asked_for():
    model, x = tiny(), all_images(3)[torch.arange(3, 500, 41)]
    images = data.from_tensor(x)
    with seeded(0):
        table = turns.table(model, images, draws=20, nll_samples=4_000)
    with seeded(0):
        plain = turns.table(model, images, draws=20)
    assert list(table.columns) == [*plain.columns, "nll"]
    for name, values in plain.columns.items():
        assert torch.equal(table[name], values)
    expected, of_base = nll(model, x), nll(model.base, x).nll
    assert ((table["nll"] - expected.nll).abs() < 6 * expected.se).all()
    assert ((table["nll"] - of_base).abs() > 6 * expected.se).any(), "the test can tell"


def test_the_images_are_their_own_reference():
    model, images = tiny(4), data.from_tensor(all_images(4)[torch.arange(1, 65_000, 9_000)])
    with seeded(0):
        found = turns.maps(model, images)
    with seeded(0):
        turned = turns.turn_back(model, images)
    fine = poses.maps(model.base, turned.back)
    assert torch.equal(found, poses.compose(turns.quarter_maps(turned.quarter), fine))


def turned_back(model: QuarterTurns, images: data.Images) -> turns.Turned:
    with seeded(0):
        return turns.turn_back(model, images, draws=2_000)


def test_a_task_with_turns_trains_such_a_model(monkeypatch):
    load = data.load
    monkeypatch.setattr(data, "load", lambda name, split, **_: load("mini", split))
    task = where.TASKS["turns-affine-straight-turns-0"]
    model = where.build(task)
    assert isinstance(model, QuarterTurns)
    assert isinstance(model.encoder, models.SecondLook)
    assert not isinstance(where.build(where.TASKS["turns-affine-straight-0"]), QuarterTurns)
    names = [name for name, _ in model.named_parameters()]
    assert names == [name for name, _ in model.base.named_parameters()]
