"""Laws of gradient estimators, on a model with a known posterior: values that equal the bounds,
unbiased gradients, and no gradient for an exact encoder."""

import itertools
from functools import partial

import pytest
import torch
from linear_gaussian import LinearGaussian

from tvae_core import bounds, models
from tvae_core.estimators import (
    analytic_kl,
    doubly_reparameterized,
    dreg,
    paired,
    path_derivative,
    path_log_weights,
    reparameterized,
    slope_and_curvature,
    stl,
)
from tvae_core.runtime import seeded

K, N, GROUPS = 6, 400, 60
elbo, iwae = reparameterized(bounds.elbo), reparameterized(bounds.iwae)
miwae = partial(bounds.miwae, m=2)  # 3 draws in each of 2 groups


def renyi(log_w: torch.Tensor, alpha: float) -> torch.Tensor:
    """The variational Renyi bound (Li & Turner 2016): smooth, and not one of those in `bounds`."""
    return bounds.iwae((1 - alpha) * log_w) / (1 - alpha)


BOUNDS = {
    "elbo": bounds.elbo,
    "iwae": bounds.iwae,
    "miwae": miwae,
    "ciwae": partial(bounds.ciwae, beta=0.3),
    "renyi": partial(renyi, alpha=0.5),
    "renyi 2": partial(renyi, alpha=2.0),
}
# Statistical tests take up to a second for each bound, so each bound is a test of its own there.
every_bound = pytest.mark.parametrize("bound", BOUNDS.values(), ids=BOUNDS)
curved_bound = pytest.mark.parametrize("bound", list(BOUNDS.values())[1:], ids=list(BOUNDS)[1:])
DOUBLY = {f"doubly {name}": doubly_reparameterized(bound) for name, bound in BOUNDS.items()}


def model(shift: float = 0.7, widen: float = 1.3) -> LinearGaussian:
    """The encoder alone has the parameters shift and widen; encoder and decoder both use W."""
    parameters = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (shift, widen))
    built = LinearGaussian(*parameters)
    built.W.requires_grad_()
    return built


def gradient(model: LinearGaussian, value: torch.Tensor) -> torch.Tensor:
    """The gradient of shift, of widen, and of W, as one vector."""
    parts = torch.autograd.grad(value, [model.shift, model.widen, model.W])
    return torch.cat([part.flatten() for part in parts])


def gradients(
    estimator, k: int = K, kl_weight: float = 1.0, seed: int = 1, **options
) -> torch.Tensor:
    """Gradients of GROUPS means over N images, each with its own draws: (GROUPS, parameters)."""
    built = model(**options)
    x = LinearGaussian().images(1).x.expand(N, -1, -1, -1)
    with seeded(seed):
        every = (built.particles(x, k) for _ in range(GROUPS))
        weighted = [kl_weight] if kl_weight != 1 else []  # some functions below take none
        return torch.stack([gradient(built, estimator(p, *weighted).mean()) for p in every])


def difference_in_standard_errors(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    variance = sum(rows.var(0) / len(rows) for rows in (one, other))
    return (one.mean(0) - other.mean(0)).abs() / variance.sqrt()


def test_the_value_of_an_estimator_is_its_bound(subtests):
    makers = {
        "reparameterized": reparameterized,
        "path": path_derivative,
        "doubly": doubly_reparameterized,
    }
    estimators = {
        "stl": (stl, bounds.elbo),
        "dreg": (dreg, bounds.iwae),
        "paired": (paired(doubly_reparameterized(miwae), iwae), bounds.iwae),
    }
    for (how, make), (name, bound) in itertools.product(makers.items(), BOUNDS.items()):
        estimators[f"{how} {name}"] = make(bound), bound
    for (name, (estimator, bound)), k in itertools.product(estimators.items(), [2, 8]):
        with subtests.test(name, k=k):
            particles = model().particles(LinearGaussian().images(3).x, k)
            torch.testing.assert_close(estimator(particles), bound(particles.log_w))
            fixed = particles._replace(latents=particles.latents.detach())
            with torch.no_grad():
                assert not estimator(fixed).requires_grad


@pytest.mark.parametrize(
    ("estimator", "reference"),
    [(stl, elbo), (analytic_kl, elbo), (dreg, iwae)],
    ids=["stl", "analytic_kl", "dreg"],
)
def test_the_gradient_is_unbiased(estimator, reference):
    difference = difference_in_standard_errors(gradients(estimator), gradients(reference))
    assert difference.max() < 4, difference


@every_bound
def test_double_reparameterization_of_every_bound_is_unbiased(bound):
    ours = gradients(doubly_reparameterized(bound), seed=2)
    difference = difference_in_standard_errors(ours, gradients(reparameterized(bound)))
    assert difference.max() < 4, difference


@pytest.mark.parametrize("bound", [bounds.iwae, miwae], ids=["iwae", "miwae"])
def test_double_reparameterization_is_unbiased_for_a_kl_weight_below_1(bound):
    ours = gradients(doubly_reparameterized(bound), kl_weight=0.4, seed=2)
    difference = difference_in_standard_errors(
        ours, gradients(reparameterized(bound), kl_weight=0.4)
    )
    assert difference.max() < 4, difference


@curved_bound
def test_sticking_the_landing_is_biased_for_a_curved_bound_and_the_tests_above_would_notice(bound):
    cut = gradients(path_derivative(bound), seed=2)
    difference = difference_in_standard_errors(cut, gradients(reparameterized(bound)))
    assert difference.max() > 8, difference


def test_sticking_the_landing_of_the_elbo_is_stl():
    assert torch.equal(gradients(path_derivative(bounds.elbo)), gradients(stl))


@pytest.mark.parametrize("kl_weight", [0.4, 1.0])
def test_double_reparameterization_is_stl_for_the_elbo_and_dreg_for_iwae(kl_weight):
    for bound, closed in ((bounds.elbo, stl), (bounds.iwae, dreg)):
        ours = gradients(doubly_reparameterized(bound), kl_weight=kl_weight)
        torch.testing.assert_close(ours, gradients(closed, kl_weight=kl_weight))


def normalised(log_w: torch.Tensor) -> torch.Tensor:
    return log_w.exp() / log_w.exp().sum(0)


# The docstring's formula for slope - curvature, for 6 draws of each of 4 images.
ENCODER_WEIGHTS = {
    "elbo": lambda log_w: torch.full_like(log_w, 1 / 6),
    "iwae": lambda log_w: normalised(log_w) ** 2,
    "miwae": lambda log_w: torch.cat(
        [normalised(log_w[[0, 2, 4]]) ** 2 / 2, normalised(log_w[[1, 3, 5]]) ** 2 / 2]
    )[[0, 3, 1, 4, 2, 5]],
    "ciwae": lambda log_w: 0.3 / 6 + 0.7 * normalised(log_w) ** 2,
    "renyi": lambda log_w: 0.5 * normalised(0.5 * log_w) + 0.5 * normalised(0.5 * log_w) ** 2,
    "renyi 2": lambda log_w: 2 * normalised(-log_w) - normalised(-log_w) ** 2,
}


def test_slope_minus_curvature_is_the_closed_form_of_each_bound(subtests):
    with seeded(0):
        log_w = 2 * torch.randn(6, 4, dtype=torch.float64)
    for name, bound in BOUNDS.items():
        with subtests.test(name):
            slope, curvature = slope_and_curvature(bound, log_w)
            torch.testing.assert_close(slope - curvature, ENCODER_WEIGHTS[name](log_w))
            stacked, _ = slope_and_curvature(bound, log_w.view(6, 2, 2))
            torch.testing.assert_close(stacked, slope.view(6, 2, 2))


def test_draws_with_zero_weight_leave_the_gradient_finite():
    far = torch.tensor([0.0, 0, 0, 0, -2000, -2000], dtype=torch.float64).unsqueeze(1)
    for name, estimator in DOUBLY.items():
        built = model()
        particles = built.particles(LinearGaussian().images(3).x, K)
        value = estimator(particles._replace(log_lik=particles.log_lik + far))
        assert gradient(built, value.mean()).isfinite().all(), name


def test_dreg_without_its_second_weighting_is_biased():
    def once(particles):
        log_w = path_log_weights(particles)
        return (log_w.softmax(0).detach() * log_w).sum(0)

    assert difference_in_standard_errors(gradients(once), gradients(iwae))[:2].max() > 8


def test_dreg_and_stl_give_the_encoder_a_less_noisy_gradient():
    pairs = [(doubly_reparameterized(b), reparameterized(b)) for b in BOUNDS.values()]
    for quiet, noisy in [(dreg, iwae), (stl, elbo), *pairs]:
        close = {"shift": 0.1, "widen": 1.05}
        spreads = [gradients(e, **close)[:, :2].std(0) for e in (quiet, noisy)]
        assert (spreads[0] < spreads[1] / 2).all()


def test_an_exact_encoder_gets_no_gradient_from_any_draw():
    estimators = {"stl": stl, "dreg": dreg, **DOUBLY}
    for (name, estimator), k in itertools.product(estimators.items(), [2, 6]):
        exact = model(shift=0.0, widen=1.0)
        value = estimator(exact.particles(LinearGaussian().images(4).x, k)).mean()
        assert gradient(exact, value)[:2].abs().max() < 1e-10, (name, k)


def test_the_usual_gradient_of_an_exact_encoder_is_pure_noise():
    for estimator in (elbo, iwae):
        exact = model(shift=0.0, widen=1.0)
        with seeded(0):
            value = estimator(exact.particles(LinearGaussian().images(4).x, 5)).mean()
        assert gradient(exact, value)[:2].abs().max() > 1e-3


def test_with_one_draw_dreg_is_stl():
    for options in ({}, {"shift": 0.0, "widen": 2.0}):
        torch.testing.assert_close(gradients(dreg, 1, **options), gradients(stl, 1, **options))


@pytest.mark.parametrize("kl_weight", [0.0, 0.3, 1.0])
def test_the_kl_weight_multiplies_the_kl_term_of_every_estimator(kl_weight):
    particles = model().particles(LinearGaussian().images(3).x, 4)
    log_lik, log_ratio = particles.log_lik, particles.log_q - particles.log_prior
    expected = {
        elbo: (log_lik - kl_weight * log_ratio).mean(0),
        stl: (log_lik - kl_weight * log_ratio).mean(0),
        iwae: (log_lik - kl_weight * log_ratio).exp().mean(0).log(),
        dreg: (log_lik - kl_weight * log_ratio).exp().mean(0).log(),
        analytic_kl: log_lik.mean(0) - kl_weight * particles.kl.sum(-1),
    }
    for estimator, value in expected.items():
        torch.testing.assert_close(estimator(particles, kl_weight), value)


# Two estimators at once, on a model whose encoder and decoder share no parameters.


def parts(estimator, k: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of encoder and decoder from one set of draws, with images weighted unequally."""
    with seeded(0):
        vae = models.build("affine", (4, 6), dim_z=3, dim_u=2, hidden=(8,)).double()
        x = torch.rand(5, 1, 4, 6, dtype=torch.float64).bernoulli()
    with seeded(1):
        particles = vae.particles(x, k)
    weights = torch.arange(1.0, 6.0, dtype=torch.float64)
    (weights * estimator(particles)).sum().backward()
    return tuple(
        torch.cat([p.grad.flatten() for p in part.parameters()])
        for part in (vae.encoder, vae.decoder)
    )


PAIRED = {
    "piwae": (reparameterized(miwae), iwae),
    "dreg and elbo": (dreg, elbo),
    "elbo and dreg": (analytic_kl, dreg),
    "doubly": (doubly_reparameterized(miwae), doubly_reparameterized(bounds.iwae)),
}


@pytest.mark.parametrize(("encoder", "decoder"), PAIRED.values(), ids=PAIRED)
def test_each_side_of_a_pair_gets_the_gradient_of_its_own_estimator(encoder, decoder):
    ours = parts(paired(encoder, decoder))
    torch.testing.assert_close(ours[0], parts(encoder)[0])
    torch.testing.assert_close(ours[1], parts(decoder)[1])
    assert not torch.allclose(ours[0], parts(decoder)[0])
    assert not torch.allclose(ours[1], parts(encoder)[1])


def test_an_estimator_paired_with_itself_is_unchanged():
    ours, alone = parts(paired(iwae, iwae)), parts(iwae)
    for one, other in zip(ours, alone, strict=True):
        torch.testing.assert_close(one, other)
