"""Likelihoods by name: each is torch's own distribution, and no floor is passed."""

import math

import pytest
import torch
from torch import distributions, nn

from tvae_core import data, models
from tvae_core.networks import PixelBernoulli, PixelContinuousBernoulli
from tvae_core.own import pixels, training
from tvae_core.runtime import seeded

LOGITS = torch.tensor([-9.0, -1, -0.11, -0.09, -1e-3, 0, 1e-4, 0.09, 0.11, 2, 9]).view(-1, 1, 1, 1)
GRAY = torch.rand(11, 1, 1, 1, generator=torch.Generator().manual_seed(0))


def test_continuous_bernoulli_pixels_are_torchs():
    found = PixelContinuousBernoulli(LOGITS.double())
    torchs = distributions.ContinuousBernoulli(logits=LOGITS.double(), lims=(0.4999, 0.5001))
    density = torchs.log_prob(GRAY.double()).flatten()
    torch.testing.assert_close(found.log_prob(GRAY.double()), density, rtol=0, atol=1e-8)
    torch.testing.assert_close(found.mean, torchs.mean, rtol=0, atol=1e-7)


def test_float32_is_enough_near_a_logit_of_0_for_the_mean_and_the_slope():
    """The slope of the density with the logit is x minus the mean, whatever the logit."""
    logits = torch.cat([LOGITS.flatten(), torch.linspace(-0.3, 0.3, 400)]).view(-1, 1, 1, 1)
    logits.requires_grad_()
    found = PixelContinuousBernoulli(logits)
    double = PixelContinuousBernoulli(logits.detach().double())
    torch.testing.assert_close(found.mean.double(), double.mean, rtol=0, atol=2e-6)
    found.log_prob(torch.full_like(logits, 0.3)).sum().backward()
    torch.testing.assert_close(logits.grad.double(), 0.3 - double.mean, rtol=0, atol=2e-6)


def test_normal_pixels_are_torchs():
    found = pixels.make_pixels("normal", 0.2)(LOGITS)
    torchs = distributions.Normal(LOGITS.sigmoid(), 0.2)
    torch.testing.assert_close(found.log_prob(GRAY), torchs.log_prob(GRAY).flatten())
    torch.testing.assert_close(found.mean, torchs.mean)


@pytest.mark.parametrize("likelihood", pixels.LIKELIHOODS)
def test_a_log_likelihood_is_a_sum_over_the_pixels_and_channels(likelihood):
    logits, x = torch.randn(3, 2, 3, 4, 5), torch.rand(2, 3, 4, 5)
    of = pixels.make_pixels(likelihood)
    whole = of(logits).log_prob(x)
    single = of(logits.reshape(-1, 1, 1, 1)).log_prob(
        x.expand(3, -1, -1, -1, -1).reshape(-1, 1, 1, 1)
    )
    torch.testing.assert_close(whole, single.view(3, 2, -1).sum(-1), rtol=1e-4, atol=1e-3)


def test_no_density_passes_its_floor():
    black = torch.zeros(1, 1, 1)
    gray_level = 1 / 255
    continuous = pixels.make_pixels("continuous-bernoulli")(torch.full((1, 1, 1), -1e6))
    assert continuous.log_prob(black).item() == pytest.approx(math.log(255))
    assert continuous.mean.item() == pytest.approx(gray_level, rel=1e-3)
    normal = pixels.make_pixels("normal")
    with torch.no_grad():
        normal.extra.fill_(-1e6)
    assert normal.noise.item() == pytest.approx(gray_level)
    assert pixels.make_pixels("normal", gray_level).noise.item() == pytest.approx(gray_level)


def test_small_logits_are_those_of_the_book():
    logits = torch.linspace(-14, 14, 9).view(-1, 1, 1)
    continuous = pixels.make_pixels("continuous-bernoulli")(logits)
    torch.testing.assert_close(continuous.logits, logits, rtol=2e-3, atol=0)


def test_noise_is_learned_unless_it_is_given():
    assert pixels.make_pixels() is PixelBernoulli
    learned, given = pixels.make_pixels("normal"), pixels.make_pixels("normal", 0.3)
    assert learned.noise.item() == pytest.approx(0.1 + 1 / 255)
    assert [name for name, _ in learned.named_parameters()] == ["extra"]
    assert not [*given.parameters()]
    assert given.noise.item() == pytest.approx(0.3)


def test_what_is_refused():
    with pytest.raises(ValueError, match=r"unknown likelihood 'poisson'; known: bernoulli, contin"):
        pixels.make_pixels("poisson")
    with pytest.raises(ValueError, match=r"at least 1 / 255, one gray level .*; got 0.001"):
        pixels.make_pixels("normal", 0.001)
    with pytest.raises(ValueError, match="only the likelihood 'normal' has noise, not 'bernoulli'"):
        pixels.make_pixels("bernoulli", 0.1)


@pytest.mark.parametrize("likelihood", pixels.LIKELIHOODS)
def test_the_best_constant_is_likelier_than_its_neighbours(likelihood):
    x = torch.rand(50, 1, 2, 3) ** 3
    of = pixels.make_pixels(likelihood)
    best = pixels.best_constant(of, x)
    torch.testing.assert_close(best.mean, x.mean(0), rtol=0, atol=1e-4)

    def mean_log_prob(logits, noise=None):
        same = type(best)(logits.expand_as(x), *([] if noise is None else [noise]))
        return same.log_prob(x).mean().item()

    noise = getattr(best, "noise", None)
    at = mean_log_prob(best.logits, noise)
    for step in (-0.1, 0.1):
        assert mean_log_prob(best.logits + step, noise) < at
        if noise is not None:
            assert mean_log_prob(best.logits, noise * (1 + step)) < at
    if noise is not None:
        given = pixels.best_constant(pixels.make_pixels("normal", 0.5), x)
        assert given.noise.item() == 0.5


@pytest.mark.parametrize("resample", models.RESAMPLED)
@pytest.mark.parametrize("likelihood", pixels.LIKELIHOODS)
def test_a_warped_image_has_the_pixels_of_its_model(likelihood, resample):
    with seeded(0):
        of = pixels.make_pixels(likelihood)
        model = models.build("affine", (5, 6), 2, hidden=(8,), pixels=of, resample=resample)
        nn.init.zeros_(model.decoder.pose.weight)
        latents = model.sample_latents(3)
    canonical, seen = model.decoder.canonical(latents[:, :2]), model.decoder(latents)
    assert type(seen) is type(canonical) is type(of(torch.zeros(1, 1, 1)))
    torch.testing.assert_close(seen.logits, canonical.logits, rtol=1e-3, atol=1e-3)


def test_the_likelihood_belongs_to_a_run(tmp_path):
    images = data.from_tensor(torch.rand(20, 1, 4, 4))
    options = {"epochs": 1, "dim_z": 2, "hidden": 8, "folder": tmp_path}
    trained = training.train(images, likelihood="normal", **options)
    assert isinstance(trained.model.decoder.canonical.pixels, pixels.NormalPixels)
    assert "decoder.canonical.pixels.extra" in trained.model.state_dict()
    with pytest.raises(ValueError, match="another run: likelihood was normal, and is cont"):
        training.train(images, likelihood="continuous-bernoulli", **options)
