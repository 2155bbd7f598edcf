"""Laws of diagnostics: the NLL as a function of K, checked against its definition and against exact
log p(x), and a density of gray pixels that integrates to 1."""

import math

import pytest
import torch
from linear_gaussian import LinearGaussian
from test_evaluation import Table

from tvae_core import ais, bounds, data, diagnostics, evaluation, models
from tvae_core.data import Images
from tvae_core.experiments.turns import QuarterTurns
from tvae_core.networks import PixelBernoulli, PixelContinuousBernoulli
from tvae_core.runtime import seeded

N_DRAWS, KS = 157, (1, 2, 10, 60, 157)


def levels(n: int) -> Images:
    return Images(torch.arange(n, dtype=torch.uint8).view(n, 1, 1, 1), None, "levels")


@pytest.fixture(scope="module")
def table() -> torch.Tensor:
    """Log-weights (157, 7), as low as -1000; those of the last image spread over 40 nats."""
    with seeded(0):
        log_w = torch.randn(N_DRAWS, 7, dtype=torch.float64)
    return (log_w * torch.linspace(1, 10, 7) - torch.linspace(80, 1000, 7)).float().double()


def by_definition(log_w: torch.Tensor, k: int) -> torch.Tensor:
    """The rows of the curve for one image, block by block, in plain arithmetic."""
    rows = []
    for block in log_w[: len(log_w) // k * k].view(-1, k):
        w = (block - block.max()).exp()
        nll = math.log(k) - w.sum().log() - block.max()
        others = [torch.cat([w[:i], w[i + 1 :]]) for i in range(k)] if k > 1 else []
        left_out = [math.log(k - 1) - other.sum().log() - block.max() for other in others]
        jackknife = (k - 1) * (sum(left_out) / k - nll) if left_out else torch.tensor(math.nan)
        delta = w.var(correction=0) / w.mean() ** 2 / (2 * k)
        ess, dominated = w.sum() ** 2 / (w**2).sum(), w.max() > w.sum() / 2
        rows.append(torch.stack([nll, jackknife, delta, ess, dominated.double()]))
    return torch.stack(rows).mean(0)


@pytest.mark.parametrize("rows", [1, 7, 100, 2000])
def test_the_curve_matches_its_definition_for_any_chunk_size(table, rows):
    curve = diagnostics.nll_curve(Table(table), levels(7), KS, rows)
    assert curve.ks == KS
    for i, k in enumerate(KS):
        for image in range(7):
            got = torch.stack([row[i, image] for row in curve[1:]])
            expected = by_definition(table[:, image], k)
            torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-9, equal_nan=True)
    assert curve.dominated[2, -1] > 0.5 > curve.dominated[2, 0]  # both cases occur


def test_one_draw_far_above_all_others_leaves_the_jackknife_finite():
    log_w = torch.full((50, 1), -500.0)
    log_w[17] = 0.0
    curve = diagnostics.nll_curve(Table(log_w), levels(1), (50,))
    # In one of 50 cases the draw itself is left out, and log 50 becomes 500; otherwise log 49.
    expected = 49 * (500 + 49 * math.log(49) - 50 * math.log(50)) / 50
    assert curve.jackknife.item() == pytest.approx(expected)
    assert curve.dominated.item() == 1


def test_estimates_of_the_bias_agree_with_the_bias():
    model = LinearGaussian(shift=0.7, widen=1.4)
    one = model.images(1)
    copies = one[torch.zeros(500, dtype=torch.long)]
    with seeded(1):
        curve = diagnostics.nll_curve(model, copies, (2, 4, 8, 16, 32, 64, 256), rows=50_000)
    bias = curve.nll + model.log_prob(one.x)
    for i, k in enumerate(curve.ks[:4]):
        assert curve.jackknife[i].mean() == pytest.approx(bias[i].mean().item(), rel=0.5), k
    # The delta method and the jackknife become exact as k grows; at 32 they are close.
    for estimate in (curve.jackknife, curve.delta):
        assert estimate[4].mean() == pytest.approx(bias[4].mean().item(), rel=0.25)


def test_the_curve_ends_at_the_nll_of_evaluation():
    model = LinearGaussian(shift=0.7, widen=1.4, dtype=torch.float32)
    images = model.images(200)
    with seeded(1):
        curve = diagnostics.nll_curve(model, images, (10, 500))
        nll = evaluation.nll(model, images, 500)
    difference = curve.nll[-1] - nll.nll
    assert difference.mean().abs() < 4 * difference.std() / math.sqrt(200)
    assert curve.ess[-1].mean() == pytest.approx(nll.ess.mean().item(), rel=0.05)


@pytest.mark.parametrize(("n", "rows"), [(30, 1), (30, 100), (5000, 200)])
def test_each_image_is_encoded_once_and_decoder_batches_are_bounded(tiny, n, rows):
    model, images = tiny
    encoded, decoded = [], []
    model.encoder.register_forward_hook(lambda _, args, __: encoded.append(len(args[0])))
    model.decoder.register_forward_hook(lambda _, args, __: decoded.append(args[0][..., 0].numel()))
    diagnostics.nll_curve(model, images, (n,), rows)
    assert sum(encoded) == len(images)
    assert sum(decoded) == n * len(images)
    assert max(decoded) <= rows


def test_a_curve_from_given_weights_is_the_curve_of_the_model(table):
    curve = diagnostics.nll_curve(Table(table), levels(7), KS)
    for got, expected in zip(diagnostics.curve_of(table, KS), curve, strict=True):
        torch.testing.assert_close(got, expected, equal_nan=True)


def test_numbers_of_draws_that_do_not_increase_are_refused(subtests, tiny, table):
    for ks in ((), (2, 2), (5, 2)):
        with subtests.test(ks=ks):
            with pytest.raises(ValueError, match="must be at least 1 and increase"):
                diagnostics.nll_curve(*tiny, ks)
            with pytest.raises(ValueError, match="must be at least 1 and increase"):
                diagnostics.curve_of(table, ks)


def test_fewer_weights_than_the_curve_needs_are_refused(table):
    with pytest.raises(ValueError, match=r"ks\[-1\] = 158 draws, got 157"):
        diagnostics.curve_of(table, (1, 158))


# Gray pixels.

LOGITS = [-60.0, -17, -5, -0.5, -2e-3, -1e-3, -5e-4, 0, 1e-6, 9.9e-4, 0.1, 3, 17, 60]


def test_the_density_of_a_gray_pixel_integrates_to_one():
    edges = torch.linspace(0, 1, 400_001, dtype=torch.float64)
    x = ((edges[1:] + edges[:-1]) / 2).view(-1, 1, 1, 1)
    for logit in LOGITS:
        logits = torch.full((1, 1, 1), logit, dtype=torch.float64)
        density = PixelContinuousBernoulli(logits.expand_as(x)).log_prob(x).exp()
        assert density.mean().item() == pytest.approx(1, abs=1e-8), logit


def test_float32_is_enough_for_the_density_at_any_logit():
    logits = torch.tensor(LOGITS).view(-1, 1, 1, 1)
    for x in (0.0, 0.3, 1.0):
        pixel = torch.full((1, 1, 1), x)
        single = PixelContinuousBernoulli(logits).log_prob(pixel)
        double = PixelContinuousBernoulli(logits.double()).log_prob(pixel.double())
        torch.testing.assert_close(single.double(), double, rtol=1e-6, atol=1e-6)


def test_the_density_agrees_with_torch_where_torch_is_accurate():
    logits = torch.tensor([-9.0, -3, -0.2, 0, 0.2, 3, 9], dtype=torch.float64).view(-1, 1, 1, 1)
    pixel = torch.full((1, 1, 1), 0.3, dtype=torch.float64)
    torchs = torch.distributions.ContinuousBernoulli(logits=logits).log_prob(pixel).flatten()
    torch.testing.assert_close(PixelContinuousBernoulli(logits).log_prob(pixel), torchs)


def test_the_gradient_of_the_density_is_finite_where_the_formula_is_0_over_0():
    logits = torch.zeros(1, 1, 1, requires_grad=True)
    PixelContinuousBernoulli(logits).log_prob(torch.full((1, 1, 1), 0.3)).backward()
    assert logits.grad.item() == pytest.approx(0.3 - 0.5)


def test_with_gray_density_a_model_scores_the_same_draws_by_their_density(tiny):
    model, images = tiny
    gray = diagnostics.with_gray_density(model)
    with torch.no_grad():
        with seeded(1):
            bernoulli = model.particles(images.x, 6)
        with seeded(1):
            continuous = gray.particles(images.x, 6)
        logits = model.decoder(bernoulli.latents).logits
    torch.testing.assert_close(continuous.latents, bernoulli.latents)
    expected = PixelContinuousBernoulli(logits).log_prob(images.x)
    torch.testing.assert_close(continuous.log_lik, expected)
    assert (continuous.log_lik > bernoulli.log_lik).all()  # by a factor of at least 2 per pixel
    assert gray.dim_u == model.dim_u


def test_the_cross_entropy_of_gray_pixels_is_at_least_their_entropy():
    """A gray image's Bernoulli cross-entropy is least at its own gray values, and not 0 there."""
    x = data.load("mini", "test")[:20].x
    best = -PixelBernoulli(torch.logit(x, eps=1e-7)).log_prob(x)
    entropy = -(torch.xlogy(x, x) + torch.xlogy(1 - x, 1 - x)).flatten(1).sum(1)
    torch.testing.assert_close(best, entropy, rtol=1e-3, atol=1e-3)
    assert entropy.mean() > 20


def halves() -> tuple[LinearGaussian, diagnostics.Mixture]:
    """A model, and two encoders that each miss the posterior to one side of it."""
    model = LinearGaussian()
    off = [LinearGaussian(shift=shift) for shift in (-1.0, 1.0)]
    return model, diagnostics.Mixture(model, [one.posterior for one in off])


def gray(n: int) -> Images:
    with seeded(1):
        return data.from_tensor(torch.rand(n, 1, 2, 3))


def test_a_mixture_of_encoders_is_unbiased_and_better_than_its_parts():
    model, mixture = halves()
    images = gray(20)
    exact = -model.log_prob(images.x)
    with seeded(2):
        both = evaluation.nll(mixture, images, 2_000, rows=500)
        alone = evaluation.nll(LinearGaussian(shift=1.0), images, 2_000, rows=500)
        log_w = torch.cat(list(diagnostics.log_weights(mixture, images, 20_000)), 1)
    w = (log_w + exact).exp()
    error = w.std(0) / math.sqrt(len(w))
    assert ((w.mean(0) - 1).abs() < 4.5 * error).all()
    assert error.max() < 0.1
    assert both.ess.median() > 2 * alone.ess.median()


def test_each_draw_of_a_mixture_is_weighted_by_the_density_of_all(subtests):
    _, mixture = halves()
    x = gray(3).x
    for k in (1, 2, 5):
        with subtests.test(k=k), seeded(3):
            particles = mixture.particles(x, k)
            first, second = mixture.posterior(x)
            n = math.ceil(k / 2)
            expected = (n / k) * first.log_prob(particles.latents).sum(-1).exp()
            expected += (1 - n / k) * second.log_prob(particles.latents).sum(-1).exp()
            torch.testing.assert_close(particles.log_q, expected.log())
            assert particles.latents.shape == (k, 3, 3)
            # The encoders take turns, so any draws in a row come from all of them.
            closer = first.log_prob(particles.latents).sum(-1) > second.log_prob(
                particles.latents
            ).sum(-1)
            assert closer[::2].double().mean() > 0.8
            assert k == 1 or closer[1::2].double().mean() < 0.2


def test_the_curve_of_a_mixture_is_that_of_fewer_draws():
    _, mixture = halves()
    x = gray(400).x
    with seeded(5):
        curve = diagnostics.nll_curve(mixture, data.from_tensor(x), (2, 4_000))
        direct = -bounds.iwae(mixture.particles(x, 2).log_w)
    se = direct.std() / 20
    assert abs(curve.nll[0].mean() - direct.mean()) < 4 * se


def test_a_mixture_of_one_encoder_is_the_model():
    model = LinearGaussian(shift=0.5)
    images = gray(4)
    with seeded(4):
        alone = evaluation.nll(model, images, 300)
    with seeded(4):
        mixed = evaluation.nll(diagnostics.Mixture(model, [model.posterior]), images, 300)
    torch.testing.assert_close(alone.nll, mixed.nll)


def test_pareto_k_finds_the_shape_of_a_known_tail(subtests):
    """Powers of uniform numbers, u^-k, have a Pareto tail of shape k; log-normals tend to 0."""
    with seeded(5):
        uniform = torch.rand(5_000, 40, dtype=torch.float64)
    for k in (0.3, 0.7, 1.2):
        with subtests.test(k=k):
            found = diagnostics.pareto_k(-k * uniform.log() - 700)
            assert abs(found.mean() - k) < 0.1
    narrow = diagnostics.pareto_k(0.1 * torch.randn(5_000, 10))
    assert narrow.mean() < 0.2


def test_pareto_k_needs_a_tail():
    with pytest.raises(
        ValueError, match="weights of an image are all equal: their tail has no shape"
    ):
        diagnostics.pareto_k(torch.zeros(30, 2))
    with pytest.raises(ValueError, match="at least 25 draws, got 24"):
        diagnostics.pareto_k(torch.zeros(24, 1))


def test_a_fitted_proposal_covers_what_the_encoder_misses():
    """A trained decoder's posterior is wider than this encoder: the fitted one finds its width."""
    with seeded(6):
        model = models.build("affine", (4, 6), dim_z=2, dim_u=1, hidden=(16,), pose_std=0.4)
        model.encoder.log_sigma.bias.data -= 2.5  # far too narrow
        images = data.binarize_fixed(data.from_tensor(torch.rand(60, 1, 4, 6)))
        before = {name: value.clone() for name, value in model.state_dict().items()}
        fitted = diagnostics.fit_proposal(model, images.x, steps=300, k=30, rate=1e-2)
        mixture = diagnostics.Mixture(model, [model.encoder, fitted])
        own, mixed = (evaluation.nll(m, images, 2_000) for m in (model, mixture))
        exact = evaluation.nll(diagnostics.Mixture(model, [_wide]), images, 50_000)
    assert fitted(images.x).stddev.mean() > 3 * model.posterior(images.x).stddev.mean()
    assert mixed.ess.median() > 5 * own.ess.median()
    assert (mixed.nll - exact.nll).abs().max() < 0.2
    assert (own.nll - exact.nll).mean() > 0.5
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    assert all(parameter.grad is None for parameter in model.parameters())


def _wide(x: torch.Tensor) -> torch.distributions.Normal:
    """The prior, for two or three latents a proposal that misses nothing."""
    return torch.distributions.Normal(torch.zeros(len(x), 3), torch.ones(len(x), 3))


def test_the_learning_rate_of_a_proposal_falls_to_zero():
    with seeded(7):
        model = models.build("plain", (4, 6), dim_z=2, hidden=(4,))
        x = torch.rand(5, 1, 4, 6).round()
        fitted = diagnostics.fit_proposal(model, x, steps=1, k=4, batch=5, rate=0.01)
    change = (fitted.mu_z.bias - model.encoder.mu_z.bias).abs()
    torch.testing.assert_close(change, torch.full((2,), 0.01), rtol=1e-3, atol=0)


def test_a_mixture_refuses_models_that_draw_in_their_own_way_and_other_sizes():
    model = QuarterTurns(models.build("similarity", (8, 8), 2, hidden=(4,)))
    with pytest.raises(
        TypeError, match=r"a Mixture draws from a models\.VAE, not from a QuarterTurns"
    ):
        diagnostics.Mixture(model, [model.encoder])
    with pytest.raises(
        TypeError, match=r"a Mixture draws from a models\.VAE, not from a QuarterTurns"
    ):
        diagnostics.fit_proposal(model, torch.rand(3, 1, 8, 8), steps=1)
    both = diagnostics.Mixture(model.base, [model.base.encoder])
    with pytest.raises(ValueError, match=r"expected images of shape \(B, 1, 8, 8\)"):
        both.particles(torch.rand(3, 1, 9, 9), 2)


def test_log_weights_can_be_taken_to_numpy_and_nan_is_named():
    model = models.build("plain", (4, 4), 2, hidden=(4,))
    images = data.from_tensor(torch.rand(3, 1, 4, 4))
    log_w = torch.cat([*diagnostics.log_weights(model, images, 30)], 1)
    assert not log_w.requires_grad
    assert diagnostics.pareto_k(log_w).shape == (3,)
    log_w[0, 1] = math.nan
    with pytest.raises(ValueError, match="NaN or infinite: check the model's parameters"):
        diagnostics.pareto_k(log_w)


def test_coloured_images_can_be_annealed_and_get_a_proposal():
    model = models.build("affine", (3, 6, 6), 2, 6, hidden=(4,))
    x = (torch.rand(3, 3, 6, 6) > 0.5).float()
    assert ais.ais(model, x, 3, 2, leapfrog=1).log_p.shape == (3,)
    assert ais.posterior_draws(model, x, 2, 3, 2, leapfrog=1).shape[:3] == (2, 2, 3)
    encoder = diagnostics.fit_proposal(model, x, steps=2, k=3, batch=2)
    assert encoder(x).mean.shape == (3, 8)
