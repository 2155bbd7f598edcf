"""Laws of models, networks and estimators: shapes, log-terms, gradients, and what z and u do."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from tvae_core import bounds, models, warps
from tvae_core.estimators import analytic_kl, reparameterized
from tvae_core.networks import PixelBernoulli, mlp
from tvae_core.runtime import seeded

WARPED = [name for name in models.MODELS if name != "plain"]


def make(name: str, size=(5, 8), seed: int = 0, **options) -> models.VAE:
    """A small model. No parameter keeps its initial value, so no zero can hide a mistake."""
    with seeded(seed):
        model = models.build(name, size, **({"dim_z": 3, "hidden": (7, 6)} | options))
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.3)
    return model


def images(n: int, size=(5, 8), dtype=torch.float32) -> torch.Tensor:
    with seeded(0):
        return torch.rand(n, 1, *size, dtype=dtype)


def test_axes_are_particles_then_batch_then_event(subtests):
    for name, size in itertools.product(models.MODELS, [(28, 28), (5, 8)]):
        with subtests.test(name, size=size):
            model = make(name, size)
            latent = model.dim_z + model.dim_u
            particles = model.particles(images(2, size), 3)
            tensors = {n: part for n, part in particles._asdict().items() if torch.is_tensor(part)}
            shapes = {field: tuple(value.shape) for field, value in tensors.items()}
            assert shapes == {
                "latents": (3, 2, latent),
                "log_lik": (3, 2),
                "log_prior": (3, 2),
                "log_q": (3, 2),
                "kl": (2, latent),
            }
            assert particles.log_w.shape == (3, 2)
            assert particles.q.batch_shape == (2, latent)
            assert model.decoder(particles.latents).mean.shape == (3, 2, 1, *size)
            assert model.sample_latents(4).shape == (4, latent)
            z, u = model.split(particles.latents)
            assert (z.shape, u.shape) == ((3, 2, model.dim_z), (3, 2, model.dim_u))


@pytest.mark.parametrize(
    ("name", "dims", "parameters"),
    [
        # encoder: 784*256 + 256 and 256*256 + 256, then mean and log sigma, 2 (256*60 + 60);
        # decoder: z*256 + 256, 256*256 + 256, 256*784 + 784; W and b of the pose: u*u + u.
        ("plain", (60, 0), 200_960 + 65_792 + 30_840 + 15_616 + 65_792 + 201_488),
        ("affine", (54, 6), 200_960 + 65_792 + 30_840 + 14_080 + 65_792 + 201_488 + 42),
        ("tps", (42, 18), 200_960 + 65_792 + 30_840 + 11_008 + 65_792 + 201_488 + 342),
    ],
)
def test_the_models_have_the_sizes_of_the_study(name, dims, parameters):
    model = models.build(name)
    assert (model.dim_z, model.dim_u) == dims
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_each_layer_is_linear_followed_by_a_relu():
    with seeded(0):
        body, x = mlp([4, 3, 2]), torch.randn(5, 4)
    (w1, b1), (w2, b2) = ((layer.weight, layer.bias) for layer in body[::2])
    torch.testing.assert_close(body(x), ((x @ w1.T + b1).clamp(0) @ w2.T + b2).clamp(0))
    assert (body(x) > 0).any()


def test_by_default_a_model_has_sixty_latents():
    for name in models.MODELS:
        model = models.build(name)
        assert model.dim_z + model.dim_u == 60, name


def test_an_untrained_warp_is_near_the_identity(subtests):
    for name in WARPED:
        with subtests.test(name):
            with seeded(0):
                model = models.build(name)
                latents = model.sample_latents(200)
            identity = model.decoder.warp.identity
            away = (model.grid(latents) - identity).norm(dim=-1)
            assert 0 < away.mean() < 0.5  # a pose from the prior: less than a quarter of the frame
            latents[:, model.dim_z :] = 0  # the mean pose: not at all
            assert torch.equal(model.grid(latents), identity.expand(200, -1, -1, -1))


# Particles: each log-term against its formula, one latent and one image at a time. K differs from
# B, so swapped axes or copies in the wrong order cannot pass.


def test_each_log_term_belongs_to_its_own_draw_and_image(subtests):
    for name in models.MODELS:
        with subtests.test(name):
            model, x = make(name).double(), images(2, dtype=torch.float64)
            with torch.no_grad(), seeded(1):
                particles = model.particles(x, 3)
                q = model.encoder(x)
                for k, b in np.ndindex(3, 2):
                    latent, mu, sigma = particles.latents[k, b], q.mean[b], q.stddev[b]
                    p = model.decoder(latent[None]).mean
                    log_lik = (x[b] * p.log() + (1 - x[b]) * (1 - p).log()).sum()
                    log_prior = -(latent**2 + math.log(2 * math.pi)).sum() / 2
                    noise = (latent - mu) / sigma
                    log_q = -(noise**2 + math.log(2 * math.pi)).sum() / 2 - sigma.log().sum()
                    torch.testing.assert_close(particles.log_lik[k, b], log_lik)
                    torch.testing.assert_close(particles.log_prior[k, b], log_prior)
                    torch.testing.assert_close(particles.log_q[k, b], log_q)
                    torch.testing.assert_close(
                        particles.log_w[k, b], log_lik + log_prior - log_q, rtol=1e-9, atol=0
                    )
                kl = (q.mean**2 + q.variance - 1) / 2 - q.stddev.log()
            torch.testing.assert_close(particles.kl, kl)


def test_draws_follow_the_posterior(subtests):
    for name in models.MODELS:
        with subtests.test(name):
            model = make(name)
            with torch.no_grad(), seeded(1):
                x = images(2)
                q = model.encoder(x)
                noise = (model.particles(x, 4000).latents - q.mean) / q.stddev
            # 4,000 standard normals: mean within 4 / sqrt(n), variance within 4 sqrt(2 / n).
            assert noise.mean(0).abs().max() < 4 / math.sqrt(4000)
            assert (noise.var(0) - 1).abs().max() < 4 * math.sqrt(2 / 4000)


def test_with_a_given_posterior_the_encoder_is_not_called():
    model, x = make("affine"), images(2)
    posterior = model.posterior(x)
    model.encoder = None  # calling it would now be an error
    with seeded(1):
        again = model.particles(x, 3, posterior)
    assert again.log_w.shape == (3, 2)


@pytest.mark.parametrize(("bias", "sigma"), [(-50.0, math.exp(-8)), (50.0, math.exp(4))])
def test_a_runaway_log_sigma_is_clamped_to_the_nearest_limit(bias, sigma):
    # F.threshold, in the study's code, turns a very small sigma into the largest one.
    model = make("affine")
    nn.init.constant_(model.encoder.log_sigma.bias, bias)
    stddev = model.posterior(images(2)).stddev
    torch.testing.assert_close(stddev, torch.full_like(stddev, sigma))


def test_the_mean_of_u_passes_through_a_tanh_if_bounded_and_the_mean_of_z_never_does():
    for bounded in (True, False):
        model = make("affine", bounded=bounded)
        for head in (model.encoder.mu_z, model.encoder.mu_u):
            nn.init.constant_(head.bias, 9.0)
        z, u = model.split(model.posterior(images(2)).mean)
        assert (z > 2).all()
        assert ((u > 0.9) & (u <= 1)).all() if bounded else (u > 2).all()


# z says what, u says where.


def test_z_makes_the_canonical_image_and_u_the_grid(subtests):
    for name in WARPED:
        with subtests.test(name), torch.no_grad(), seeded(1):
            model = make(name)
            one, other = model.sample_latents(2)[:, None]
            mixed = torch.cat([model.split(one)[0], model.split(other)[1]], -1)
            torch.testing.assert_close(model.canonical(mixed), model.canonical(one))
            torch.testing.assert_close(model.grid(mixed), model.grid(other))
            assert not torch.allclose(model.canonical(one), model.canonical(other), atol=1e-3)
            assert not torch.allclose(model.grid(one), model.grid(other), atol=1e-3)
            # The decoder puts the two together.
            seen = nn.functional.grid_sample(
                model.canonical(one), model.grid(other), align_corners=False
            )
            torch.testing.assert_close(model.decoder(mixed).mean, seen, rtol=0, atol=1e-5)


def test_a_plain_model_has_neither_canonical_image_nor_grid():
    model = make("plain")
    for ask in (model.canonical, model.grid):
        with pytest.raises(TypeError, match=r"no warp.*build\('affine'\)"):
            ask(model.sample_latents(2))


# Gradients.

ESTIMATORS = {
    "elbo": reparameterized(bounds.elbo),
    "iwae": reparameterized(bounds.iwae),
    "analytic_kl": analytic_kl,
}


class Estimate(nn.Module):
    """An estimate for fixed images and draws, as a function of the model's parameters."""

    def __init__(self, model: models.VAE, estimator) -> None:
        super().__init__()
        self.model, self.estimator = model.double(), estimator
        self.x = images(2, model.size, torch.float64)

    def forward(self) -> torch.Tensor:
        with seeded(1):
            return self.estimator(self.model.particles(self.x, 3))


def test_every_parameter_gets_the_gradient_of_the_estimate(subtests):
    for name, (estimator, function) in itertools.product(models.MODELS, ESTIMATORS.items()):
        with subtests.test(name, estimator=estimator):
            options = {"dim_z": 2, "hidden": (5, 4)} | ({} if name == "plain" else {"dim_u": 2})
            check_gradients(Estimate(make(name, (3, 4), **options), function))


def check_gradients(estimate: Estimate) -> None:
    names, values = zip(*estimate.named_parameters(), strict=True)

    def of_parameters(*values: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(estimate, dict(zip(names, values, strict=True)), ())

    assert torch.autograd.gradcheck(of_parameters, values, fast_mode=True)
    gradients = torch.autograd.grad(of_parameters(*values).sum(), values)
    idle = [n for n, g in zip(names, gradients, strict=True) if not g.any()]
    assert not idle


@pytest.mark.parametrize("bound", [bounds.elbo, bounds.iwae])
def test_the_reparameterized_estimate_is_the_bound(bound):
    particles = make("affine").particles(images(2), 5)
    assert torch.equal(reparameterized(bound)(particles), bound(particles.log_w))


def test_analytic_kl_estimates_the_elbo_too(subtests):
    for name in models.MODELS:
        with subtests.test(name):
            with torch.no_grad(), seeded(1):
                particles = make(name).particles(images(3), 4000)
            gap = analytic_kl(particles) - reparameterized(bounds.elbo)(particles)
            # They share the likelihood and differ in the KL: estimated, or in closed form.
            se = (particles.log_prior - particles.log_q).std(0) / math.sqrt(4000)
            assert (gap.abs() < 4 * se).all()
            assert (gap != 0).all()


# Pixels.


def test_log_prob_is_the_bernoulli_sum_for_gray_and_binary_pixels():
    with seeded(0):
        logits = torch.randn(3, 2, 1, 4, 5, dtype=torch.float64)
    p = 1 / (1 + (-logits).exp())
    for x in (images(2, (4, 5), torch.float64), images(2, (4, 5), torch.float64).round()):
        expected = (p**x * (1 - p) ** (1 - x)).log().sum((-3, -2, -1))
        torch.testing.assert_close(PixelBernoulli(logits).log_prob(x), expected)


def test_probabilities_of_zero_and_one_keep_their_gradient():
    probs = torch.tensor([[[0.0, 1.0, 0.25]]], requires_grad=True)
    pixels = PixelBernoulli.from_probs(probs)
    torch.testing.assert_close(pixels.mean, probs, rtol=0, atol=2e-6)
    (gradient,) = torch.autograd.grad(pixels.log_prob(torch.full((1, 1, 3), 0.5)), probs)
    assert gradient.isfinite().all()
    assert gradient[0, 0, 0] > 0 > gradient[0, 0, 1]  # each is pulled back from its limit


def test_sampled_pixels_are_binary_with_the_right_mean():
    with seeded(0):
        pixels = PixelBernoulli(torch.randn(1, 2, 3))
        draws = torch.stack([pixels.sample() for _ in range(2000)])
    assert set(draws.unique().tolist()) == {0.0, 1.0}
    se = (pixels.mean * (1 - pixels.mean) / 2000).sqrt()
    assert ((draws.mean(0) - pixels.mean).abs() < 4 * se).all()


# Bad input.


def test_an_unknown_model_is_refused_with_a_list_of_the_known_models():
    with pytest.raises(ValueError, match=r"unknown model 'afine'; known: plain, .*affine, tps"):
        models.build("afine")


def test_u_without_a_warp_is_refused_and_so_is_a_warp_without_u():
    with pytest.raises(ValueError, match="a plain VAE has no warp: leave out dim_u=6"):
        models.build("plain", dim_u=6)
    with pytest.raises(ValueError, match="'tps' needs pose latents; got dim_u=0"):
        models.build("tps", dim_u=0)


@pytest.mark.parametrize("k", [0, -1])
def test_fewer_than_one_draw_is_refused(k):
    with pytest.raises(ValueError, match=f"at least 1, got {k}"):
        make("plain").particles(images(2), k)


def test_images_of_a_wrong_shape_are_refused(subtests):
    shapes = [(2, 5, 8), (2, 3, 5, 8), (2, 1, 8, 5), (1, 5, 8), (2, 40)]
    message = r"expected images of shape \(B, 1, 5, 8\), got \(.*\)"
    for name, shape in itertools.product(models.MODELS, shapes):
        with subtests.test(name, shape=shape), pytest.raises(ValueError, match=message):
            make(name).particles(torch.zeros(shape))


# What a warp resamples, and what it finds outside the frame.


def test_at_theta_zero_a_warped_decoder_shows_its_canonical_image(subtests):
    choices = itertools.product(["affine", "tps"], models.RESAMPLED, ["zeros", "border"])
    for name, resample, padding in choices:
        with subtests.test(name, resample=resample, padding=padding):
            model = models.build(name, (28, 28), resample=resample, padding=padding)
            with torch.no_grad():
                model.decoder.pose.weight.zero_()
                latents = model.sample_latents(3)
                shown = model.decoder(latents).mean
            torch.testing.assert_close(shown, model.canonical(latents), rtol=1e-4, atol=1e-5)


def test_half_a_pixel_away_is_the_mean_of_two_probabilities_or_of_two_logits():
    for resample in models.RESAMPLED:
        model = models.build("translation", (1, 2), resample=resample, pose_std=0)
        with torch.no_grad():
            model.decoder.canonical.logits.weight.zero_()
            model.decoder.canonical.logits.bias.copy_(torch.tensor([-1.0, 3.0]))
            model.decoder.pose.bias.copy_(torch.tensor([0.5, 0.0]))  # half a pixel to the right
            shown = model.decoder(model.sample_latents(1)).logits[0, 0, 0, 0]
        if resample == "logits":
            assert shown.item() == pytest.approx(1.0, abs=1e-4)
        else:
            p = torch.tensor([-1.0, 3.0]).sigmoid().mean()
            assert shown.sigmoid().item() == pytest.approx(p.item(), abs=1e-4)


def test_the_first_pose_is_as_far_from_the_identity_as_it_is_asked_to_be():
    for std in (0.02, 0.5):
        with seeded(0):
            pose = models.build("affine", dim_u=2_000, pose_std=std).decoder.pose
        assert pose.weight.std().item() == pytest.approx(std, rel=0.05)
        assert not pose.bias.any()


@pytest.mark.parametrize("resample", models.RESAMPLED)
def test_outside_the_frame_zeros_give_blank_paper_and_border_repeats_the_edge(resample):
    for padding, expected in (("zeros", 0.0), ("border", 0.9)):
        model = models.build("translation", (6, 6), resample=resample, padding=padding)
        with torch.no_grad():
            model.decoder.canonical.logits.weight.zero_()
            model.decoder.canonical.logits.bias.fill_(math.log(9))  # p = 0.9 everywhere
            model.decoder.pose.bias.copy_(torch.tensor([4.0, 0.0]))  # two frames to the right
            outside = model.decoder(model.sample_latents(1)).mean
        torch.testing.assert_close(outside, torch.full_like(outside, expected), rtol=0, atol=2e-6)


def test_an_unknown_warp_option_is_refused_and_a_plain_model_has_none():
    with pytest.raises(ValueError, match="unknown kind of values to resample 'log'; known: probs,"):
        models.build("affine", resample="log")
    with pytest.raises(ValueError, match="unknown padding 'zero'; known: zeros, border"):
        models.build("affine", padding="zero")
    with pytest.raises(ValueError, match="a plain VAE has no warp"):
        models.build("plain", padding="border")


@pytest.mark.parametrize("name", ["plain", "affine"])
def test_a_decoder_can_start_at_the_mean_image(name):
    mean = torch.linspace(0, 1, 784).view(1, 28, 28)
    model = models.build(name)
    models.start_at_mean(model, mean, floor=0.01)
    decoder = getattr(model.decoder, "canonical", model.decoder)
    torch.testing.assert_close(decoder.logits.bias.sigmoid().view(1, 28, 28), 0.01 + 0.98 * mean)


# Colour.


@pytest.mark.parametrize("look", ["once", "pose", "straight", "straight-mean"])
def test_one_warp_moves_all_channels(look):
    with seeded(0):
        model = models.build("affine", (3, 5, 6), 2, hidden=(8,), look=look)
        x = torch.rand(4, 3, 5, 6)
        latents = model.particles(x, 2).latents
    assert (model.size, model.shape) == ((5, 6), (3, 5, 6))
    canonical, grid = model.canonical(latents), model.grid(latents)
    assert canonical.shape == (2, 4, 3, 5, 6)
    seen = torch.cat([warps.sample(c, grid) for c in canonical.split(1, -3)], -3)
    torch.testing.assert_close(model.decoder(latents).mean, seen, rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match=r"expected images of shape \(B, 3, 5, 6\), got \(4, 1, 5"):
        model.posterior(x[:, :1])


def test_a_plain_model_in_colour_starts_at_the_mean_image():
    model = models.build("plain", (3, 5, 6), 2, hidden=(8,))
    mean = torch.rand(3, 5, 6)
    models.start_at_mean(model, mean, floor=0.01)
    torch.nn.init.zeros_(model.decoder.logits.weight)
    torch.testing.assert_close(model.decoder(torch.zeros(2)).mean, 0.01 + 0.98 * mean)


def test_bytes_are_no_images():
    model = models.build("plain", (4, 4), 2, hidden=(4,))
    with pytest.raises(ValueError, match=r"floats in \[0, 1\], such as images.x; got torch.uint8"):
        model.particles(torch.zeros(2, 1, 4, 4, dtype=torch.uint8), 1)
