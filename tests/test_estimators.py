"""Laws of gradient estimators, on a model whose posterior is known: equal values, unbiased
gradients, and no gradient for an encoder that is exact."""

import pytest
import torch
from linear_gaussian import LinearGaussian

from tvae_core import bounds
from tvae_core.estimators import analytic_kl, dreg, reparameterized, stl
from tvae_core.runtime import seeded

K, N, GROUPS = 5, 400, 60
elbo, iwae = reparameterized(bounds.elbo), reparameterized(bounds.iwae)


def stl_of_iwae(particles):
    """What `stl` would be for the IWAE bound: biased."""
    return bounds.iwae(particles.log_w_path)


def model(shift: float = 0.7, widen: float = 1.3) -> LinearGaussian:
    """Its encoder has parameters of its own, shift and widen; both sides use W."""
    parameters = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (shift, widen))
    built = LinearGaussian(*parameters)
    built.W.requires_grad_()
    return built


def gradient(model: LinearGaussian, value: torch.Tensor) -> torch.Tensor:
    """Of the encoder's own two parameters, then of W."""
    parts = torch.autograd.grad(value, [model.shift, model.widen, model.W])
    return torch.cat([part.flatten() for part in parts])


def gradients(estimator, k: int = K, **options) -> torch.Tensor:
    """Of GROUPS means over N images, each with draws of its own: (GROUPS, parameters)."""
    built = model(**options)
    x = LinearGaussian().images(1).x.expand(N, -1, -1, -1)
    with seeded(1):
        rows = [gradient(built, estimator(built.particles(x, k)).mean()) for _ in range(GROUPS)]
    return torch.stack(rows)


def standard_errors_apart(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    variance = sum(rows.var(0) / len(rows) for rows in (one, other))
    return (one.mean(0) - other.mean(0)).abs() / variance.sqrt()


@pytest.mark.parametrize(
    ("estimator", "bound"), [(stl, bounds.elbo), (dreg, bounds.iwae), (elbo, bounds.elbo)]
)
@pytest.mark.parametrize("k", [1, 2, 7])
def test_an_estimator_s_value_is_its_bound(estimator, bound, k):
    particles = model().particles(LinearGaussian().images(3).x, k)
    torch.testing.assert_close(estimator(particles), bound(particles.log_w))
    with torch.no_grad():
        assert not estimator(particles._replace(latents=particles.latents.detach())).requires_grad


@pytest.mark.parametrize(
    ("estimator", "reference"),
    [(stl, elbo), (analytic_kl, elbo), (dreg, iwae)],
    ids=["stl", "analytic_kl", "dreg"],
)
def test_the_gradient_is_unbiased(estimator, reference):
    apart = standard_errors_apart(gradients(estimator), gradients(reference))
    assert apart.max() < 4, apart


def test_sticking_the_landing_is_biased_for_iwae_and_the_test_above_would_see_it():
    apart = standard_errors_apart(gradients(stl_of_iwae), gradients(iwae))
    assert apart.max() > 8, apart


def test_dreg_without_its_second_weighting_is_biased():
    def once(particles):
        log_w = particles.log_w_path
        return (log_w.softmax(0).detach() * log_w).sum(0)

    assert standard_errors_apart(gradients(once), gradients(iwae))[:2].max() > 8


def test_dreg_and_stl_have_less_noise_for_the_encoder():
    for quiet, noisy in ((dreg, iwae), (stl, elbo)):
        close = {"shift": 0.1, "widen": 1.05}
        spreads = [gradients(e, **close)[:, :2].std(0) for e in (quiet, noisy)]
        assert (spreads[0] < spreads[1] / 2).all()


@pytest.mark.parametrize("estimator", [stl, dreg])
@pytest.mark.parametrize("k", [1, 5])
def test_an_exact_encoder_gets_no_gradient_from_any_draw(estimator, k):
    exact = model(shift=0.0, widen=1.0)
    value = estimator(exact.particles(LinearGaussian().images(4).x, k)).mean()
    assert gradient(exact, value)[:2].abs().max() < 1e-10


def test_the_usual_gradient_of_an_exact_encoder_is_noise():
    for estimator in (elbo, iwae):
        exact = model(shift=0.0, widen=1.0)
        with seeded(0):
            value = estimator(exact.particles(LinearGaussian().images(4).x, 5)).mean()
        assert gradient(exact, value)[:2].abs().max() > 1e-3


def test_one_draw_of_dreg_is_stl():
    for options in ({}, {"shift": 0.0, "widen": 2.0}):
        torch.testing.assert_close(gradients(dreg, 1, **options), gradients(stl, 1, **options))


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_beta_weighs_the_price_of_the_latents_in_every_estimator(beta):
    particles = model().particles(LinearGaussian().images(3).x, 4)._replace(beta=beta)
    log_lik, price = particles.log_lik, particles.log_q - particles.log_prior
    expected = {
        elbo: (log_lik - beta * price).mean(0),
        stl: (log_lik - beta * price).mean(0),
        iwae: (log_lik - beta * price).exp().mean(0).log(),
        dreg: (log_lik - beta * price).exp().mean(0).log(),
        analytic_kl: log_lik.mean(0) - beta * particles.kl.sum(-1),
    }
    for estimator, value in expected.items():
        torch.testing.assert_close(estimator(particles), value)
