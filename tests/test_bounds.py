"""Laws of the bounds: closed forms, invariances, and ELBO <= IWAE_k <= IWAE_2k <= log p."""

import math

import pytest
import torch
from linear_gaussian import LinearGaussian

from tvae_core import bounds
from tvae_core.runtime import seeded

BOUNDS = [bounds.elbo, bounds.iwae]
every_bound = pytest.mark.parametrize("bound", BOUNDS)


def some_log_w(*shape: int, spread: float = 1.0) -> torch.Tensor:
    with seeded(0):
        return spread * torch.randn(shape, dtype=torch.float64)


# Each bound as the formula says it, for the particles of one image.
FORMULAS = {
    bounds.elbo: lambda log_w: sum(log_w) / len(log_w),
    bounds.iwae: lambda log_w: math.log(sum(map(math.exp, log_w)) / len(log_w)),
}


def by_formula(bound, log_w: torch.Tensor) -> torch.Tensor:
    images = log_w.flatten(1).T if log_w.ndim > 1 else log_w[None]
    values = [FORMULAS[bound](image.tolist()) for image in images]
    return torch.tensor(values, dtype=torch.float64).view(log_w.shape[1:])


@every_bound
@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (4,), (4, 2, 3)])
def test_a_bound_is_its_formula_over_the_particles_of_each_image(bound, shape):
    log_w = some_log_w(*shape)
    torch.testing.assert_close(bound(log_w), by_formula(bound, log_w))


@every_bound
def test_with_one_particle_every_bound_is_its_log_weight(bound):
    log_w = some_log_w(1, 4)
    assert torch.equal(bound(log_w), log_w[0])


@every_bound
@pytest.mark.parametrize("k", [1, 2, 7])
def test_at_the_exact_posterior_every_bound_is_log_p_for_any_draw(bound, k):
    model = LinearGaussian()
    x = model.images(5).x.double()
    with seeded(k):
        log_w = model.particles(x, k).log_w
    torch.testing.assert_close(bound(log_w), model.log_prob(x), rtol=0, atol=1e-10)


@every_bound
def test_scaling_the_weights_shifts_a_bound(bound):
    log_w, shift = some_log_w(6, 4), torch.tensor([-700.0, 0.0, 3.0, 700.0])
    torch.testing.assert_close(bound(log_w + shift), bound(log_w) + shift)


@every_bound
def test_the_order_of_particles_does_not_matter_and_that_of_images_is_kept(bound):
    log_w = some_log_w(6, 4)
    particles, images = torch.tensor([3, 0, 5, 1, 4, 2]), torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(bound(log_w[particles]), bound(log_w))
    torch.testing.assert_close(bound(log_w[:, images]), bound(log_w)[images])


@every_bound
@pytest.mark.parametrize("centre", [-1000.0, 1000.0])
@pytest.mark.parametrize("spread", [1.0, 100.0])
def test_float32_is_enough_for_log_weights_far_from_zero(bound, centre, spread):
    # exp(-1000) is 0 in any float, so the formula is asked near zero, and log-sum-exp far from it.
    log_w = some_log_w(50, 3, spread=spread)
    value = bound((log_w + centre).float())
    assert value.dtype == torch.float32
    expected = by_formula(bound, log_w) + centre
    torch.testing.assert_close(value.double(), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("bound", "weights"),
    [
        (bounds.elbo, lambda log_w: torch.full_like(log_w, 1 / len(log_w))),
        (bounds.iwae, lambda log_w: log_w.exp() / log_w.exp().sum(0)),
    ],
)
def test_the_gradient_weighs_the_particles_of_each_image(bound, weights):
    log_w = some_log_w(3, 5).requires_grad_()
    (gradient,) = torch.autograd.grad(bound(log_w).sum(), log_w)
    torch.testing.assert_close(gradient, weights(log_w))


def test_elbo_is_never_above_iwae_of_the_same_draws():
    log_w = some_log_w(4, 1000, spread=3.0)
    assert (bounds.elbo(log_w) < bounds.iwae(log_w)).all()


# The next laws hold in expectation, here over 4,000 independent sets of draws for one image. q is
# not the posterior, so the gaps are real: each must exceed 0 by 4 standard errors of its mean.
SETS = 4000


@pytest.fixture(scope="module")
def log_w_and_log_p() -> tuple[torch.Tensor, float]:
    model = LinearGaussian(shift=0.7, widen=1.4)
    x = model.images(1).x.double()
    with seeded(1):
        log_w = model.particles(x.expand(SETS, -1, -1, -1), 32).log_w
    return log_w, model.log_prob(x).item()


def gap_in_standard_errors(gap: torch.Tensor) -> float:
    return (gap.mean() / (gap.std() / math.sqrt(len(gap)))).item()


@pytest.mark.parametrize("k", [1, 2, 4, 8, 16])
def test_iwae_rises_with_k_towards_log_p(log_w_and_log_p, k):
    log_w, log_p = log_w_and_log_p
    looser, tighter = bounds.iwae(log_w[:k]), bounds.iwae(log_w[: 2 * k])
    assert gap_in_standard_errors(tighter - looser) > 4
    assert gap_in_standard_errors(log_p - tighter) > 4


@pytest.mark.parametrize("k", [2, 32])
def test_more_draws_leave_the_elbo_where_it_was_and_lower_its_noise(log_w_and_log_p, k):
    log_w, _ = log_w_and_log_p
    one, many = bounds.elbo(log_w[:1]), bounds.elbo(log_w[:k])
    assert abs(gap_in_standard_errors(many - one)) < 4
    # The variance of a mean of k draws is 1/k; that of an estimated ratio, about sqrt(4 / SETS).
    assert k * many.var() / one.var() == pytest.approx(1, abs=4 * math.sqrt(4 / SETS))
