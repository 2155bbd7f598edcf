"""Laws of annealed importance sampling: weights that are unbiased in both directions, on models
whose log p(x) is known, and transitions that leave their distribution invariant."""

import itertools
import math

import pytest
import torch
from linear_gaussian import LinearGaussian
from torch.distributions import Normal

from tvae_core import ais, diagnostics, models, own
from tvae_core.runtime import seeded

CHAINS = 20_000
starts = pytest.mark.parametrize("start", ais.STARTS)


def standard_errors(values: torch.Tensor, expected: float | torch.Tensor) -> torch.Tensor:
    """How far the mean over chains is from `expected`, in standard errors."""
    return ((values.mean(0) - expected) / (values.std(0) / math.sqrt(len(values)))).abs()


def off_path(start: str = "prior") -> tuple[ais.Path, torch.Tensor, float]:
    """A path to the posterior of one image, where q is not exact; an exact draw; log p(x)."""
    model = LinearGaussian(shift=0.7, widen=1.4)
    with seeded(3):
        x, z = ais.simulate(model, 1)
    return ais.Path.of(model, x, start), z, model.log_prob(x).item()


def rough_steps(betas: torch.Tensor, size: float = 1.6) -> torch.Tensor:
    """Steps so large that many proposals are rejected."""
    return torch.full((len(betas), 1), size, dtype=torch.float64)


# The weights.


# Models and starts for which both w and 1/w have finite variance: the posterior's width is between
# 0.7 and 1 times that of the start.
BOTH_WAYS = {"prior": {"s": 0.3}, "q": {"shift": 0.7, "widen": 0.85}}


@starts
@pytest.mark.parametrize("n", [1, 3, 8])
def test_forward_weights_are_unbiased_for_p_and_reverse_weights_for_1_over_p(start, n):
    model = LinearGaussian(**BOTH_WAYS[start])
    with seeded(3):
        x, _ = ais.simulate(model, 1)
    path, log_p = ais.Path.of(model, x, start), model.log_prob(x)
    posterior = LinearGaussian(s=model.s).posterior(x)
    betas = ais.schedule(n)
    steps = rough_steps(betas)
    with seeded(1):
        _, forward, acceptance = ais.anneal(path, path.start.sample((CHAINS,)), betas, steps, 2)
        _, reverse, _ = ais.anneal(path, posterior.sample((CHAINS,)), betas, steps, 2, reverse=True)
    assert acceptance.item() < 0.8  # otherwise the Metropolis step goes untested
    assert standard_errors((forward - log_p).exp(), 1) < 4
    assert standard_errors((log_p - reverse).exp(), 1) < 4
    assert (forward - log_p).std() > 0.1  # and the weights do vary


def path_image() -> torch.Tensor:
    with seeded(3):
        return ais.simulate(LinearGaussian(), 1)[0]


def test_from_the_exact_posterior_every_chain_gives_log_p():
    model = LinearGaussian()
    with seeded(0):
        x, z = ais.simulate(model, 5)
        lower, upper = ais.bdmc(model, x, z, 4, chains=3, start="q", leapfrog=2, rows=6)
    expected = model.log_prob(x)
    for bound in (lower, upper):
        torch.testing.assert_close(bound.log_p, expected)
        torch.testing.assert_close(bound.log_w, expected.expand(3, 5))
        torch.testing.assert_close(bound.ess, torch.full((5,), 3.0, dtype=torch.float64))
        assert (bound.se < 1e-6).all()


def test_the_bounds_enclose_log_p_and_close_in_with_more_distributions():
    model = LinearGaussian(shift=0.7, widen=1.4)
    with seeded(5):
        x, z = ais.simulate(model, 400)
        results = {n: ais.bdmc(model, x, z, n, chains=2, leapfrog=2) for n in (2, 8, 32)}
    log_p, gaps = model.log_prob(x), []
    for n, (lower, upper) in results.items():
        below, above = log_p - lower.log_p, upper.log_p - log_p
        assert below.mean() > -3 * below.std() / 20, n
        assert above.mean() > -3 * above.std() / 20, n
        gaps.append(results[n].gap.mean())
        torch.testing.assert_close(results[n].gap, below + above)
    assert all(after < before / 2 for before, after in itertools.pairwise(gaps)), gaps
    assert gaps[-1] < 1


@starts
def test_ais_agrees_with_log_p_within_its_standard_errors(start):
    model = LinearGaussian(shift=0.7, widen=1.4)
    with seeded(7):
        x, _ = ais.simulate(model, 60)
        result = ais.ais(model, x, 30, chains=32, start=start, leapfrog=3)
    error = result.log_p - model.log_prob(x)
    assert error.abs().max() < 0.5
    # The standard errors are as large as the errors: 60 ratios have deviation 1 +- 0.1.
    assert (error / result.se).std().item() == pytest.approx(1, abs=0.35)


@starts
def test_ais_agrees_with_a_sum_over_a_grid_for_a_decoder_with_a_warp(start):
    options = {"pose_std": 0.4, "padding": "border"}
    with seeded(0):
        model = models.build("affine", (4, 6), dim_z=1, dim_u=1, hidden=(8,), **options).double()
        for parameter in model.decoder.parameters():
            parameter.data *= 2  # to make the posterior differ from the prior
        x, _ = ais.simulate(model, 3)
        result = ais.ais(model, x, 60, chains=64, start=start, leapfrog=3)
    axis = torch.linspace(-6, 6, 241, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        pixels, log_prior = model.decoder(grid), Normal(0, 1).log_prob(grid).sum(-1)
        joint = torch.stack([log_prior + pixels.log_prob(image) for image in x], 1)
    exact = joint.logsumexp(0) + 2 * math.log(12 / 240)
    assert ((result.log_p - exact).abs() < 4 * result.se).all(), (result.log_p - exact, result.se)
    assert result.se.max() < 0.2


# The transitions.


def moments(beta: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Exact mean and deviation of the intermediate distribution of `off_path`."""
    q = LinearGaussian().posterior(path_image())
    precision = (1 - beta) + beta / q.variance[0]
    return beta * (q.mean[0] / q.variance[0]) / precision, precision.rsqrt()


@pytest.mark.parametrize("beta", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("leapfrog", [1, 3])
def test_a_transition_leaves_its_distribution_invariant(beta, leapfrog):
    path, _, _ = off_path()
    mean, deviation = moments(beta)
    with seeded(1):
        latents = mean + deviation * torch.randn(CHAINS, 1, 3, dtype=torch.float64)
        point = path.at(latents)
        for _ in range(4):
            point, rate = ais.transition(path, point, beta, torch.tensor([1.6]), leapfrog)
    assert rate.mean() < 0.9
    unit = ((point.latents - mean) / deviation)[:, 0]
    assert standard_errors(unit, 0).max() < 4.5
    assert standard_errors(unit**2, 1).max() < 4.5
    # And it moves: the chains keep little memory of where they started.
    left = (unit * ((latents - mean) / deviation)[:, 0]).mean(0)
    assert left.abs().max() < 0.5


def test_transitions_converge_to_their_distribution_from_elsewhere():
    path, _, _ = off_path()
    mean, deviation = moments(1.0)
    with seeded(1):
        point = path.at(path.start.sample((2000,)))
        for _ in range(30):
            point, _ = ais.transition(path, point, 1.0, torch.tensor([0.8]), 3)
    unit = ((point.latents - mean) / deviation)[:, 0]
    assert standard_errors(unit, 0).max() < 4.5
    assert standard_errors(unit**2, 1).max() < 4.5


def test_leapfrog_is_reversible_and_nearly_conserves_the_energy():
    path, _, _ = off_path()

    def energy(point, momentum):
        return momentum.square().sum(-1) / 2 - point.log_f(0.4)

    with seeded(1):
        point = path.at(torch.randn(50, 1, 3, dtype=torch.float64))
        momentum = torch.randn(50, 1, 3, dtype=torch.float64)
    errors = []
    for leapfrog in (4, 8, 16):
        step = torch.full((50, 1), 2.0 / leapfrog, dtype=torch.float64)
        end, turned = ais.walk(path, point, momentum, 0.4, step, leapfrog)
        back, _ = ais.walk(path, end, -turned, 0.4, step, leapfrog)
        torch.testing.assert_close(back.latents, point.latents)
        assert (end.latents - point.latents).abs().max() > 0.5
        errors.append((energy(end, turned) - energy(point, momentum)).abs().mean())
    # The error falls as the step squared.
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.3)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.3)


def test_a_point_holds_the_densities_at_its_latents_and_their_gradients():
    path, _, _ = off_path("q")
    with seeded(0):
        latents = torch.randn(4, 1, 3, dtype=torch.float64)
    point = path.at(latents)
    beta = 0.3
    latents.requires_grad_()
    log_f = 0.7 * path.start.log_prob(latents).sum(-1) + 0.3 * path.joint(latents)
    torch.testing.assert_close(point.log_f(beta), log_f.detach())
    torch.testing.assert_close(point.slope(beta), torch.autograd.grad(log_f.sum(), latents)[0])


def test_step_sizes_are_tuned_to_the_target_acceptance():
    model = LinearGaussian(shift=0.7, widen=1.4)
    with seeded(2):
        x, _ = ais.simulate(model, 50)
        result = ais.ais(model, x, 100, chains=16, leapfrog=5)
    assert result.acceptance.mean().item() == pytest.approx(ais.ACCEPTANCE, abs=0.1)


def test_each_image_has_its_own_step_sizes():
    """The posterior of the second of two images is ten times narrower: it needs shorter steps at
    the end of the path but not at the start."""
    wide = torch.tensor([[1.0], [0.1]], dtype=torch.float64).expand(2, 3)
    posterior = Normal(torch.zeros_like(wide), wide)
    prior = Normal(torch.zeros_like(wide), torch.ones_like(wide))
    path = ais.Path(prior, lambda z: posterior.log_prob(z).sum(-1), torch.ones_like(wide))
    with seeded(0):
        steps = ais.tune(path, ais.schedule(100), chains=50, leapfrog=3)
    ratio = steps[:, 0] / steps[:, 1]
    assert ratio[0] < 2
    assert ratio[-1] == pytest.approx(10, rel=0.2)


def test_step_sizes_are_fixed_before_the_chains_that_are_weighted(monkeypatch):
    """Tuning ends before the first of them starts, and gives one step size per distribution."""
    order = []
    for name in ("tune", "anneal"):
        original = getattr(ais, name)
        monkeypatch.setattr(
            ais, name, lambda *a, f=original, n=name, **k: order.append((n, a)) or f(*a, **k)
        )
    model = LinearGaussian(shift=0.7)
    with seeded(0):
        x, z = ais.simulate(model, 4)
        ais.bdmc(model, x, z, 5, chains=2, leapfrog=2)
    assert [name for name, _ in order] == ["tune", "anneal", "anneal"]
    forward, reverse = (arguments[3] for _, arguments in order[1:])
    assert forward.shape == (6, 4)
    assert forward is reverse  # the same transitions in both directions


# The rest.


def test_the_schedule_rises_from_0_to_1_slowly_at_both_ends():
    for n in (1, 2, 50):
        betas = ais.schedule(n)
        assert len(betas) == n + 1
        assert betas[0] == 0
        assert betas[-1] == 1
        assert (betas.diff() > 0).all()
    torch.testing.assert_close(betas + betas.flip(0), torch.ones_like(betas))
    assert betas[1] < 0.1 * betas.diff().max()


@pytest.mark.parametrize("rows", [1, 5, 100])
def test_images_keep_their_order_and_decoder_batches_are_bounded(rows):
    model = LinearGaussian()
    with seeded(0):
        x, _ = ais.simulate(model, 5)
        decoded, decoder = [], model.decoder
        model.decoder = lambda z: decoded.append(z[..., 0].numel()) or decoder(z)
        result = ais.ais(model, x, 3, chains=2, start="q", leapfrog=1, rows=rows)
    torch.testing.assert_close(result.log_p, model.log_prob(x))
    assert max(decoded) <= max(rows, 2)
    assert result.log_w.shape == (2, 5)


def test_the_model_gets_no_gradient():
    with seeded(0):
        model = models.build("affine", (4, 6), dim_z=2, hidden=(8,))
        x, z = ais.simulate(model, 2)
        result = ais.bdmc(model, x, z, 3, chains=2, leapfrog=2)
    assert result.lower.log_p.dtype == torch.float32
    assert not result.gap.requires_grad
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("option", ["n_distributions", "chains", "leapfrog"])
def test_numbers_below_one_are_refused(option):
    with pytest.raises(ValueError, match=f"{option} must be a whole number of at least 1"):
        ais.ais(LinearGaussian(), path_image(), **{option: 0})


def test_an_empty_batch_and_a_wrong_number_of_latents_are_refused():
    with pytest.raises(ValueError, match=r"x must be .* shape \(0, "):
        ais.ais(LinearGaussian(), path_image()[:0])
    with pytest.raises(ValueError, match="got 2 for 1 images"):
        ais.bdmc(LinearGaussian(), path_image(), torch.zeros(2, 3))


def test_an_unknown_start_is_refused():
    with pytest.raises(ValueError, match="unknown start 'posterior'; known: prior, q"):
        ais.ais(LinearGaussian(), path_image(), start="posterior")


@starts
def test_draws_follow_the_posterior(start):
    model = LinearGaussian(shift=0.7, widen=1.4)
    with seeded(11):
        x, _ = ais.simulate(model, 3)
        drawn = ais.posterior_draws(model, x, 400, 20, chains=30, start=start, leapfrog=3)
    assert drawn.shape == (400, 30, 3, 3)
    exact = LinearGaussian(s=model.s).posterior(x)
    # Each chain's mean is one of 30 independent values, however its draws depend on each other.
    error = drawn.mean(0).std(0) / math.sqrt(30)
    assert ((drawn.mean((0, 1)) - exact.mean).abs() < 4.5 * error).all()
    assert (error < 0.1 * exact.stddev).all()
    torch.testing.assert_close(drawn.flatten(0, 1).std(0), exact.stddev, rtol=0.05, atol=0)


def test_chains_are_resampled_by_their_weights():
    """Two modes, the second with a weight of 9 in 10: the start finds each half of the time."""

    def log_mode(centre: float, share: float, z: torch.Tensor) -> torch.Tensor:
        return Normal(centre, 0.3, validate_args=False).log_prob(z).sum(-1) + math.log(share)

    class Modes(LinearGaussian):
        def decoder(self, latents):
            """A likelihood under which the joint density is that of the two modes."""
            modes = [log_mode(-4.0, 0.1, latents), log_mode(4.0, 0.9, latents)]
            joint = torch.stack(modes).logsumexp(0)
            pixels = super().decoder(latents)
            pixels.log_prob = lambda x: joint - self.prior.log_prob(latents).sum(-1)
            return pixels

        def posterior(self, x):
            """Draws from it lie about as often on either side."""
            return Normal(torch.zeros(len(x), 1).double(), torch.full((len(x), 1), 3.0).double())

    model = Modes(dim_z=1, dim_u=0)
    x = torch.zeros(1, 1, 2, 3, dtype=torch.float64)
    with seeded(12):
        drawn = ais.posterior_draws(model, x, 5, 5, chains=4_000, start="q", leapfrog=2)
    right = (drawn[-1] > 0).double().mean().item()
    assert abs(right - 0.9) < 0.03


def test_images_cannot_be_simulated_from_pixels_without_a_way_to_draw():
    gray = diagnostics.with_gray_density(models.build("plain", (4, 4), 2, hidden=(4,)))
    with pytest.raises(TypeError, match="PixelContinuousBernoulli cannot be sampled"):
        ais.simulate(gray, 2)
    normal = own.training.new_model("similarity", (8, 8), 2, 4, likelihood="normal")
    images, latents = ais.simulate(normal, 400)
    assert images.shape == (400, 1, 8, 8)
    off = images - normal.decoder(latents).mean
    assert off.std().item() == pytest.approx(normal.decoder(latents).noise.item(), rel=0.05)
