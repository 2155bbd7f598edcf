"""Laws of the bounds: closed forms, invariances, and ELBO <= IWAE_k <= IWAE_2k <= log p."""

import itertools
import math
from functools import partial

import pytest
import torch
from linear_gaussian import LinearGaussian

from tvae_core import bounds
from tvae_core.runtime import seeded

MIWAE = {m: partial(bounds.miwae, m=m) for m in (1, 2, 3)}
CIWAE = {beta: partial(bounds.ciwae, beta=beta) for beta in (0.0, 0.3, 1.0)}
SYMMETRIC = [bounds.elbo, bounds.iwae, CIWAE[0.3]]


def name_of(bound) -> str:
    given = getattr(bound, "keywords", {})
    return f"{getattr(bound, 'func', bound).__name__}{list(given.values()) or ''}"


# MIWAE is not symmetric in its particles: their order determines their groups.
EVERY_BOUND = {name_of(bound): bound for bound in (*SYMMETRIC, MIWAE[2])}


def some_log_w(*shape: int, spread: float = 1.0) -> torch.Tensor:
    with seeded(0):
        return spread * torch.randn(shape, dtype=torch.float64)


# The formula of each bound, for the particles of one image.
def mean(values) -> float:
    return sum(values) / len(values)


def log_mean_exp(values) -> float:
    return math.log(mean([math.exp(value) for value in values]))


FORMULAS = {
    bounds.elbo: mean,
    bounds.iwae: log_mean_exp,
    bounds.miwae: lambda log_w, m: mean([log_mean_exp(log_w[group::m]) for group in range(m)]),
    bounds.ciwae: lambda log_w, beta: beta * mean(log_w) + (1 - beta) * log_mean_exp(log_w),
}


def by_formula(bound, log_w: torch.Tensor) -> torch.Tensor:
    images = log_w.flatten(1).T if log_w.ndim > 1 else log_w[None]
    formula = FORMULAS[getattr(bound, "func", bound)]
    given = getattr(bound, "keywords", {})
    values = [formula(image.tolist(), **given) for image in images]
    return torch.tensor(values, dtype=torch.float64).view(log_w.shape[1:])


def test_a_bound_is_its_formula_over_the_particles_of_each_image(subtests):
    shapes = [(6, 5), (4, 3), (4,), (4, 2, 3)]
    for (name, bound), shape in itertools.product(EVERY_BOUND.items(), shapes):
        with subtests.test(name, shape=shape):
            log_w = some_log_w(*shape)
            torch.testing.assert_close(bound(log_w), by_formula(bound, log_w))


def test_with_one_particle_every_bound_is_its_log_weight(subtests):
    log_w = some_log_w(1, 4)
    for bound in (*SYMMETRIC, MIWAE[1]):
        with subtests.test(name_of(bound)):
            torch.testing.assert_close(bound(log_w), log_w[0], rtol=1e-15, atol=0)


def test_at_the_exact_posterior_every_bound_is_log_p_for_any_draw(subtests):
    model = LinearGaussian()
    x = model.images(5).x.double()
    for (name, bound), k in itertools.product(EVERY_BOUND.items(), [2, 8]):
        with subtests.test(name, k=k):
            with seeded(k):
                log_w = model.particles(x, k).log_w
            torch.testing.assert_close(bound(log_w), model.log_prob(x), rtol=0, atol=1e-10)


def test_scaling_the_weights_shifts_a_bound(subtests):
    log_w, shift = some_log_w(6, 4), torch.tensor([-700.0, 0.0, 3.0, 700.0])
    for name, bound in EVERY_BOUND.items():
        with subtests.test(name):
            torch.testing.assert_close(bound(log_w + shift), bound(log_w) + shift)


def test_the_order_of_particles_does_not_matter_and_the_order_of_images_is_kept(subtests):
    log_w = some_log_w(6, 4)
    particles, images = torch.tensor([3, 0, 5, 1, 4, 2]), torch.tensor([2, 0, 3, 1])
    for bound in SYMMETRIC:
        with subtests.test(name_of(bound)):
            torch.testing.assert_close(bound(log_w[particles]), bound(log_w))
            torch.testing.assert_close(bound(log_w[:, images]), bound(log_w)[images])


def test_float32_is_enough_for_log_weights_far_from_zero(subtests):
    # exp(-1000) is 0 in any float, so the formula is evaluated near zero and shifted afterwards.
    places = itertools.product([-1000.0, 1000.0], [1.0, 100.0])
    for (name, bound), (centre, spread) in itertools.product(EVERY_BOUND.items(), places):
        with subtests.test(name, centre=centre, spread=spread):
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
        (MIWAE[2], lambda log_w: log_w.exp() / 2 / log_w.exp().view(3, 2, 5).sum(0).tile(3, 1)),
    ],
    ids=["elbo", "iwae", "miwae"],
)
def test_the_gradient_weights_the_particles_of_each_image(bound, weights):
    log_w = some_log_w(6, 5).requires_grad_()
    (gradient,) = torch.autograd.grad(bound(log_w).sum(), log_w)
    torch.testing.assert_close(gradient, weights(log_w))


# What the families have in common, for any draws.


def test_at_either_end_a_family_of_bounds_is_the_elbo_or_iwae(subtests):
    log_w = some_log_w(6, 4, spread=3.0)
    for end, plain in (
        (MIWAE[1], bounds.iwae),
        (partial(bounds.miwae, m=6), bounds.elbo),
        (CIWAE[0.0], bounds.iwae),
        (CIWAE[1.0], bounds.elbo),
    ):
        with subtests.test(name_of(end)):
            torch.testing.assert_close(end(log_w), plain(log_w))


def test_bounds_of_the_same_draws_are_ordered():
    log_w = some_log_w(6, 1000, spread=3.0)
    for between in (CIWAE[0.3], MIWAE[3], MIWAE[2]):
        low, middle, high = (bound(log_w) for bound in (bounds.elbo, between, bounds.iwae))
        assert (low < middle).all(), name_of(between)
        assert (middle < high).all(), name_of(between)


def test_miwae_is_the_mean_of_one_bound_per_group():
    # 6 = 2 x 3 draws: three in each of two groups, not two in each of three.
    log_w = some_log_w(6, 4)
    groups = bounds.iwae(log_w[[0, 2, 4]]), bounds.iwae(log_w[[1, 3, 5]])
    torch.testing.assert_close(bounds.miwae(log_w, 2), (groups[0] + groups[1]) / 2)


@pytest.mark.parametrize("m", [4, 12])
def test_draws_that_do_not_divide_evenly_into_groups_are_refused(m):
    with pytest.raises(ValueError, match=f"6 draws do not divide into m={m}"):
        bounds.miwae(some_log_w(6, 4), m)


@pytest.mark.parametrize("beta", [-0.1, 1.1, math.nan])
def test_a_mixing_weight_outside_0_to_1_is_refused(beta):
    with pytest.raises(ValueError, match="0 <= beta <= 1"):
        bounds.ciwae(some_log_w(6, 4), beta)


# The remaining laws hold in expectation, here over 4,000 independent sets of draws for one image.
# q is not the posterior, so the gaps are real: each must exceed 0 by 4 standard errors of its mean.
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


def test_iwae_rises_with_k_towards_log_p(log_w_and_log_p):
    log_w, log_p = log_w_and_log_p
    for k in (1, 2, 4, 8, 16):
        looser, tighter = bounds.iwae(log_w[:k]), bounds.iwae(log_w[: 2 * k])
        assert gap_in_standard_errors(tighter - looser) > 4, k
        assert gap_in_standard_errors(log_p - tighter) > 4, k


@pytest.mark.parametrize("m", [2, 8])
def test_miwae_is_as_tight_as_one_of_its_groups_and_less_noisy(log_w_and_log_p, m):
    log_w, _ = log_w_and_log_p
    group, many = bounds.iwae(log_w[:4]), bounds.miwae(log_w[: 4 * m], m)
    assert abs(gap_in_standard_errors(many - group)) < 4
    assert m * many.var() / group.var() == pytest.approx(1, abs=4 * math.sqrt(4 / SETS))
    assert gap_in_standard_errors(bounds.iwae(log_w[: 4 * m]) - many) > 4


@pytest.mark.parametrize("k", [2, 32])
def test_more_draws_make_the_elbo_less_noisy_but_no_tighter(log_w_and_log_p, k):
    log_w, _ = log_w_and_log_p
    one, many = bounds.elbo(log_w[:1]), bounds.elbo(log_w[:k])
    assert abs(gap_in_standard_errors(many - one)) < 4
    # A mean of k draws has 1/k of the variance. The standard error of the estimated ratio is about
    # sqrt(4 / SETS).
    assert k * many.var() / one.var() == pytest.approx(1, abs=4 * math.sqrt(4 / SETS))
