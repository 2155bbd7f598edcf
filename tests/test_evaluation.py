"""Laws of evaluation: the streamed NLL agrees with exact log p(x) and with the sum in one piece."""

import math

import pytest
import torch
from linear_gaussian import LinearGaussian

from tvae_core import evaluation, models
from tvae_core.data import Images
from tvae_core.particles import Particles
from tvae_core.runtime import seeded

# Against exact log p(x). q is shifted by half a standard deviation and a third too wide.


def test_nll_agrees_with_exact_log_p_within_three_standard_errors():
    model = LinearGaussian(shift=0.5, widen=1.3, dtype=torch.float32)
    images = model.images(100)
    with seeded(1):
        result = evaluation.nll(model, images, 5_000, rows=20_000)
    error = result.nll + model.log_prob(images.x)
    assert error.mean().abs() < 3 * result.se.square().sum().sqrt() / len(images)
    # The standard errors are as large as the errors: 100 ratios have deviation 1 +- 0.07.
    assert (error / result.se).std().item() == pytest.approx(1, abs=0.25)


def test_at_the_exact_posterior_one_draw_gives_log_p():
    model = LinearGaussian()
    images = model.images(5)
    result = evaluation.nll(model, images, 1)
    torch.testing.assert_close(-result.nll.double(), model.log_prob(images.x))
    many = evaluation.nll(model, images, 700)
    torch.testing.assert_close(many.nll, result.nll)
    torch.testing.assert_close(
        many.ess, torch.full((5,), 700.0), rtol=1e-3, atol=0, check_dtype=False
    )
    assert (many.se < 1e-3).all()


def test_nll_falls_with_more_draws_in_expectation():
    model = LinearGaussian(shift=0.7, widen=1.4)
    one = model.images(1)
    copies = one[torch.zeros(3000, dtype=torch.long)]
    with seeded(1):
        result = evaluation.nll(model, copies, 64, ks=(1, 2, 4, 8, 16, 32), rows=50_000)
    steps = [*result.nll_at.double(), -model.log_prob(one.x).expand(3000)]
    for k, looser, tighter in zip(result.ks, steps, steps[1:], strict=False):
        gap = looser - tighter
        assert gap.mean() > 3 * gap.std() / math.sqrt(len(gap)), k


# Against the whole sum, with draws that do not depend on the size of the chunks.


class Table:
    """A model that gives an image of gray level i the log-weights of column i, in order."""

    def __init__(self, log_w: torch.Tensor) -> None:
        self.log_w = log_w

    def posterior(self, x: torch.Tensor) -> dict:
        return {"columns": (x[:, 0, 0, 0] * 255).round().long(), "dealt": 0}

    def particles(self, x: torch.Tensor, k: int, posterior: dict) -> Particles:
        start = posterior["dealt"]
        posterior["dealt"] += k
        log_w = self.log_w[start : start + k][:, posterior["columns"]].float()
        assert log_w.shape == (k, len(x))
        zero = torch.zeros_like(log_w)
        return Particles(
            latents=zero, log_lik=log_w, log_prior=zero, log_q=zero, kl=zero, q=posterior
        )


N_DRAWS, KS = 157, (1, 10, 60)


@pytest.fixture(scope="module")
def table() -> torch.Tensor:
    """Log-weights (157, 7), as low as -1000, spread over 4 to 40 nats."""
    with seeded(0):
        log_w = torch.randn(N_DRAWS, 7, dtype=torch.float64)
    return log_w * torch.linspace(1, 10, 7) - torch.linspace(80, 1000, 7)


@pytest.mark.parametrize("rows", [1, 7, 8, 50, 100, 10**6])
def test_the_nll_in_chunks_equals_the_nll_at_once(table, rows):
    levels = torch.arange(7, dtype=torch.uint8).view(7, 1, 1, 1)
    result = evaluation.nll(Table(table), Images(levels, None, "levels"), N_DRAWS, KS, rows)

    w = (table - table.amax(0)).exp()  # in float64
    nll = -(w.mean(0).log() + table.amax(0))
    relative_sd = w.std(0, correction=0) / w.mean(0)
    nll_at = torch.stack([math.log(k) - table[:k].logsumexp(0) for k in (*KS, N_DRAWS)])

    assert result.ks == (*KS, N_DRAWS)
    assert result.nll.dtype == torch.float32
    torch.testing.assert_close(result.nll.double(), nll, rtol=1e-6, atol=0)
    torch.testing.assert_close(result.nll_at.double(), nll_at, rtol=1e-6, atol=0)
    # At -1000, float32 resolves a log-weight to 6e-5, and so a weight to a relative 6e-5.
    ess = w.sum(0).square() / w.square().sum(0)
    torch.testing.assert_close(result.ess.double(), ess, rtol=1e-3, atol=0)
    se = relative_sd / math.sqrt(N_DRAWS)
    torch.testing.assert_close(result.se.double(), se, rtol=1e-3, atol=0)


@pytest.mark.parametrize(
    ("n_samples", "rows"), [(1, 20), (30, 1), (30, 20), (5000, 200), (5000, 1000)]
)
def test_each_image_is_encoded_once_and_memory_does_not_grow_with_draws(tiny, n_samples, rows):
    model, images = tiny
    encoded, decoded = [], []
    model.encoder.register_forward_hook(lambda _, args, __: encoded.append(len(args[0])))
    model.decoder.register_forward_hook(lambda _, args, __: decoded.append(args[0][..., 0].numel()))
    evaluation.nll(model, images, n_samples, rows=rows)
    assert sum(encoded) == len(images)
    assert sum(decoded) == len(images) * n_samples  # exactly as many as requested
    assert max(decoded) <= rows


def test_nll_leaves_no_graph_behind(tiny):
    result = evaluation.nll(*tiny, 10)
    assert not any(field.requires_grad for field in (result.nll, result.se, result.nll_at))


@pytest.mark.parametrize(("n_samples", "ks"), [(10, (5, 5)), (10, (5, 2)), (10, (11,))])
def test_ks_that_do_not_fit_the_number_of_draws_are_refused(tiny, n_samples, ks):
    with pytest.raises(ValueError, match=r"ks must increase, from 1 or more to n_samples"):
        evaluation.nll(*tiny, n_samples, ks)


def test_the_last_k_may_be_the_number_of_draws(tiny):
    assert evaluation.nll(*tiny, 10, (5, 10)).ks == (5, 10)
    assert evaluation.nll(*tiny, 10).ks == (10,)


# The terms of the ELBO.


def test_the_kl_terms_of_z_and_u_match_their_closed_forms():
    model = LinearGaussian(shift=0.5, widen=1.3, dim_z=1, dim_u=3)
    images = model.images(7)
    terms = evaluation.elbo_terms(model, images)
    q = model.posterior(images.x)
    kl = (q.mean**2 + q.stddev**2 - 1) / 2 - q.stddev.log()
    torch.testing.assert_close(terms.kl_z, kl[:, 0])
    torch.testing.assert_close(terms.kl_u, kl[:, 1] + kl[:, 2] + kl[:, 3])


def test_recon_is_the_expected_negative_log_likelihood():
    model = LinearGaussian(shift=0.5, widen=1.3)
    one = model.images(1)
    with seeded(1):
        recon = evaluation.elbo_terms(model, one[torch.zeros(4000, dtype=torch.long)]).recon
    # E |x - W z - b|^2 is the error at q's mean plus the spread of q through W.
    q = model.posterior(one.x)
    miss = (one.x.flatten(1) - q.mean @ model.W.T - model.b).square().sum()
    spread = (q.variance * model.W.square().sum(0)).sum()
    constant = one.x.numel() * math.log(math.sqrt(2 * math.pi) * model.s)
    expected = (miss + spread) / (2 * model.s**2) + constant
    assert (recon.mean() - expected).abs() < 4 * recon.std() / math.sqrt(len(recon))


def test_recon_is_the_mean_over_draws(tiny):
    model, images = tiny
    with seeded(2):
        recon = evaluation.elbo_terms(model, images, draws=7).recon
    with seeded(2), torch.no_grad():
        log_lik = model.particles(images.x, 7).log_lik
    torch.testing.assert_close(recon, -log_lik.mean(0))


def test_negative_elbo_is_the_nll_of_one_draw_in_expectation():
    model = LinearGaussian(shift=0.5, widen=1.3)
    copies = model.images(1)[torch.zeros(4000, dtype=torch.long)]
    with seeded(1):
        elbo = evaluation.elbo_terms(model, copies).negative_elbo
        nll = evaluation.nll(model, copies, 1, rows=4000).nll
    assert (elbo.mean() - nll.mean()).abs() < 4 * math.hypot(elbo.std(), nll.std()) / math.sqrt(
        4000
    )


@pytest.mark.parametrize("batch_size", [1, 3, 5, 500])
def test_terms_keep_the_order_of_images_for_any_batch_size(tiny, batch_size):
    model, images = tiny
    terms = evaluation.elbo_terms(model, images, batch_size)
    with torch.no_grad():
        kl_z, kl_u = model.split(model.particles(images.x).kl)
    torch.testing.assert_close(terms.kl_z, kl_z.sum(-1))
    torch.testing.assert_close(terms.kl_u, kl_u.sum(-1))
    assert terms.recon.shape == (len(images),)


def test_mean_se_is_the_mean_and_the_sample_deviation_over_root_n():
    mean, se = evaluation.mean_se(torch.tensor([1.0, 2.0, 4.0]))
    assert mean == pytest.approx(7 / 3)
    assert se == pytest.approx(math.sqrt(((4 / 3) ** 2 + (1 / 3) ** 2 + (5 / 3) ** 2) / 2 / 3))


# Which latents are used.


def test_units_are_the_variance_of_means_and_the_mean_kl_of_each_latent(monkeypatch):
    model = LinearGaussian(shift=0.5, widen=1.3, dim_z=1, dim_u=3)
    model.W[:, 2] = 0  # a latent that the image does not depend on
    images = model.images(300)
    monkeypatch.setattr(evaluation, "ROWS", 70)
    used = evaluation.units(model, images)
    q = model.posterior(images.x)
    torch.testing.assert_close(used.variance, q.mean.var(0))
    kl = (q.mean**2 + q.stddev**2 - 1) / 2 - q.stddev.log()
    torch.testing.assert_close(used.kl, kl.mean(0))
    assert used.active.tolist() == [True, True, False, True]
    z, u = model.split(used.active)
    assert (len(z), len(u)) == (1, 3)
    terms = evaluation.elbo_terms(model, images)
    assert used.kl[:1].sum() == pytest.approx(terms.kl_z.mean())
    assert used.kl[1:].sum() == pytest.approx(terms.kl_u.mean())


def test_units_of_a_single_image_are_refused(tiny):
    model, images = tiny
    with pytest.raises(ValueError, match="at least 2"):
        evaluation.units(model, images[:1])


def test_a_latent_that_ignores_the_image_is_unused(monkeypatch):
    """One latent's mean and scale are made constant; the others stay as they were."""
    with seeded(0):
        model = models.build("affine", size=(4, 4), dim_z=3, dim_u=2, hidden=(8,))
        images = Images((255 * torch.rand(50, 1, 4, 4)).to(torch.uint8), None, "noise")
    before = evaluation.units(model, images)
    with torch.no_grad():
        for weight in (model.encoder.mu_z.weight, model.encoder.log_sigma.weight):
            weight[1] = 0
        model.encoder.mu_z.bias[1] = model.encoder.log_sigma.bias[1] = 0
    monkeypatch.setattr(evaluation, "ROWS", 7)
    after = evaluation.units(model, images)
    assert before.kl.shape == before.variance.shape == (5,)
    assert before.kl.min() > 0
    assert before.variance.min() > 0
    assert after.kl[1] == after.variance[1] == 0
    others = [0, 2, 3, 4]
    for a, b in zip(before, after, strict=True):
        torch.testing.assert_close(a[others], b[others], rtol=1e-5, atol=1e-7)
    q = model.posterior(images.x)
    torch.testing.assert_close(after.variance.float(), q.mean.var(0), rtol=1e-4, atol=1e-7)
