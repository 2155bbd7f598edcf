"""Posteriors that are drawn in order, u and then z, on models small enough to compute it all."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from tvae_core import ais, bounds, diagnostics, estimators, evaluation, gradients, models, warps
from tvae_core.data import from_tensor
from tvae_core.experiments import stacking
from tvae_core.particles import Particles
from tvae_core.posteriors import Ordered, held, parts

SIZE = (8, 6)
LOOKS = models.LOOKS[1:]


def images(n: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(n, 1, *SIZE, generator=generator) < 0.4).double()


def make(look: str, warp: str = "affine", seed: int = 0, **options) -> models.VAE:
    """A small model in float64, with parameters so large that z depends on u."""
    torch.manual_seed(seed)
    model = models.build(
        warp, SIZE, dim_z=3, dim_u=2, hidden=(7, 5), look=look, pose_std=0.3, **options
    ).double()
    for parameter in model.encoder.parameters():
        parameter.data *= 1.3
    return model


class Chain(nn.Module):
    """u ~ N(0, 1), z ~ N(0, 1), x ~ N(z + u, s^2): q(u | x) q(z | x, u) can be the exact posterior.

    Given u, z is normal with precision 1 + 1/s^2 and mean (x - u) / (1 + s^2); u given x has mean
    x / (2 + s^2) and variance (1 + s^2) / (2 + s^2). `off` moves every parameter of q away.
    """

    def __init__(self, s: float = 0.5, off: float = 0.0) -> None:
        super().__init__()
        v, self.s = s**2, s
        exact = {
            "of_u": 1 / (2 + v),
            "sd_u": math.log((1 + v) / (2 + v)) / 2,
            "of_z": 1 / (1 + v),
            "of_z_u": -1 / (1 + v),
            "sd_z": math.log(v / (1 + v)) / 2,
        }
        for sign, (name, value) in zip((1, -1, -1, 1, 1), exact.items(), strict=True):
            setattr(self, name, nn.Parameter(torch.tensor(value + sign * off, dtype=torch.float64)))
        self.scale = nn.Parameter(torch.tensor(1.0).double())  # the decoder's own parameter

    def _given(self, x: Tensor, u: Tensor, is_held: bool = False) -> Normal:
        of_z, of_z_u, sd = self.of_z, self.of_z_u, self.sd_z
        if is_held:
            of_z, of_z_u, sd = of_z.detach(), of_z_u.detach(), sd.detach()
        mean = of_z * x + of_z_u * u
        return Normal(mean, sd.exp().expand_as(mean), validate_args=False)

    def posterior(self, x: Tensor) -> Ordered:
        mean = self.of_u * x
        u = Normal(mean, self.sd_u.exp().expand_as(mean), validate_args=False)
        return Ordered(u, x, self._given)

    def particles(self, x: Tensor, k: int) -> Particles:
        q = self.posterior(x)
        latents = q.rsample((k,))
        prior = Normal(torch.zeros_like(x[0]), 1, validate_args=False)
        pixel = Normal(self.scale * latents.sum(-1, keepdim=True), self.s, validate_args=False)
        return Particles(
            latents=latents,
            log_lik=pixel.log_prob(x).sum(-1),
            log_prior=prior.log_prob(latents).sum(-1),
            log_q=q.log_prob(latents).sum(-1),
            kl=kl_divergence(q, prior),
            q=q,
        )

    def log_p(self, x: Tensor) -> Tensor:
        return Normal(0.0, math.sqrt(2 + self.s**2)).log_prob(x).sum(-1)


def encoder_gradient(model: Chain, value: Tensor) -> Tensor:
    names = ("of_u", "sd_u", "of_z", "of_z_u", "sd_z")
    return torch.stack(torch.autograd.grad(value, [getattr(model, name) for name in names]))


def test_at_the_exact_posterior_every_weight_is_p_and_the_encoder_has_no_gradient():
    x = torch.tensor([[0.7], [-1.3]]).double()
    torch.manual_seed(0)
    for estimator in (estimators.stl, estimators.dreg):
        model = Chain()
        particles = model.particles(x, 6)
        torch.testing.assert_close(particles.log_w, model.log_p(x).expand(6, -1))
        gradient = encoder_gradient(model, estimator(particles).sum())
        torch.testing.assert_close(gradient, torch.zeros(5).double(), atol=1e-12, rtol=0)
    # The estimators that keep the score term have noise there, so the zeros above mean something.
    noisy = encoder_gradient(
        model, estimators.reparameterized(bounds.iwae)(model.particles(x, 6)).sum()
    )
    assert noisy.abs().min() > 1e-3


@pytest.mark.parametrize(
    ("bound", "estimator", "k"),
    [
        (bounds.elbo, estimators.stl, 1),
        (bounds.elbo, estimators.stl, 4),
        (bounds.iwae, estimators.dreg, 4),
        (bounds.iwae, estimators.doubly_reparameterized(bounds.iwae), 4),
    ],
)
def test_estimators_without_the_score_term_are_unbiased(bound, estimator, k):
    """The mean over many images equals that of the reparameterized gradient, by a t-test."""
    model, n = Chain(off=0.2), 200_000
    x = torch.full((n, 1), 0.8).double()
    names = ("of_u", "sd_u", "of_z", "of_z_u", "sd_z", "scale")

    def gradients_of(estimate, seed: int) -> Tensor:
        """Means over 50 groups of images of each parameter's gradient: (50, 6)."""
        torch.manual_seed(seed)
        rows = []
        for group in x.chunk(50):
            value = estimate(model.particles(group, k)).mean()
            rows.append(torch.stack(torch.autograd.grad(value, [getattr(model, a) for a in names])))
        return torch.stack(rows)

    plain, other = gradients_of(estimators.reparameterized(bound), 0), gradients_of(estimator, 1)
    error = (plain.var(0) / len(plain) + other.var(0) / len(other)).sqrt()
    assert ((plain.mean(0) - other.mean(0)).abs() < 4.5 * error).all()
    # The gradients themselves are far from 0, in units of that error.
    assert (plain.mean(0).abs() > 10 * error).all()


def test_the_path_through_u_counts(monkeypatch):
    """Planted: log q(z | x, u) held fixed as u moves. The noise at the exact posterior is back."""
    whole = Chain._given

    def cut(self, x, u, is_held=False):
        return whole(self, x, u.detach() if is_held else u, is_held)

    monkeypatch.setattr(Chain, "_given", cut)
    model, x = Chain(), torch.tensor([[0.7], [-1.3]]).double()
    torch.manual_seed(0)
    gradient = encoder_gradient(model, estimators.stl(model.particles(x, 6)).sum())
    assert gradient.abs().max() > 0.1


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("warp", ["affine", "tps"])
def test_a_posterior_is_the_normals_it_is_drawn_from(look, warp):
    model, x = make(look, warp), images(4)
    q = model.posterior(x)
    latents = q.rsample((3,))
    z, u = model.split(latents)
    # By hand, one image and one draw at a time.
    encoder = model.encoder
    for k in range(3):
        for i in range(4):
            h = encoder.body(x[i].flatten())
            of_u = Normal(encoder.mu_u(h), encoder.log_sigma_u(h).exp())
            pose = of_u.mean if look == "straight-mean" else u[k, i]
            grid = model.decoder.warp.inverse_grid(model.decoder.pose(pose))
            seen = x[i] if look == "pose" else warps.sample(x[i], grid)
            reader = encoder.reader
            h = (encoder.read(seen.flatten()) + reader.pose(u[k, i])).relu()
            h = reader.body(h)
            of_z = Normal(reader.mu(h), reader.log_sigma(h).exp())
            expected = torch.cat([of_z.log_prob(z[k, i]), of_u.log_prob(u[k, i])])
            torch.testing.assert_close(q.log_prob(latents)[k, i], expected)
            # The same for latents that this posterior did not draw itself.
            torch.testing.assert_close(q.log_prob(latents.clone())[k, i], expected)
    torch.testing.assert_close(held(q).log_prob(latents), q.log_prob(latents))
    torch.testing.assert_close(model.encoder.from_parts(*parts(q)).mean, q.mean)


def test_draws_follow_the_density():
    """E_q[r(latents) / q(latents)] = 1 for any density r: here q with narrower normals."""
    model, x = make("straight"), images(1)

    def narrower(normal: Normal) -> Normal:
        return Normal(normal.loc, 0.8 * normal.scale)

    with torch.no_grad():
        q = model.posterior(x)
        r = Ordered(narrower(q.u), q.seen, lambda *args: narrower(q.given(*args)))
        torch.manual_seed(1)
        latents = q.rsample((20_000,))
        ratio = (r.log_prob(latents) - q.log_prob(latents)).sum(-1).exp()
    error = ratio.std() / math.sqrt(len(ratio))
    assert error < 0.02
    assert abs(ratio.mean() - 1) < 4.5 * error


@pytest.mark.parametrize("look", LOOKS)
def test_the_kl_is_the_mean_of_log_q_minus_log_p(look):
    model, x = make(look), images(2)
    with torch.no_grad():
        torch.manual_seed(2)
        p = model.particles(x, 20_000)
        drawn = (p.log_q - p.log_prior).double()
    error = drawn.std(0) / math.sqrt(len(drawn))
    assert ((p.kl.sum(-1) - drawn.mean(0)).abs() < 4.5 * error).all()
    assert (p.kl.sum(-1) > 20 * error).all()


def test_the_kl_of_u_is_exact_and_that_of_z_given_each_draw():
    model, x = make("straight"), images(3)
    q = model.posterior(x)
    latents = q.rsample((5,))
    kl = kl_divergence(q, model.prior)
    torch.testing.assert_close(kl[:, 3:], kl_divergence(q.u, model.prior))
    given = model.encoder._given(x, latents[..., 3:])
    torch.testing.assert_close(kl[:, :3], kl_divergence(given, model.prior).mean(0))


def test_before_any_draw_the_kl_draws_for_itself():
    model, x = make("straight"), images(3)
    torch.manual_seed(3)
    kl = kl_divergence(model.posterior(x), model.prior)
    assert kl.shape == (3, 5)
    assert (kl >= 0).all()


@pytest.mark.parametrize("look", LOOKS)
def test_the_path_derivative_holds_all_of_the_encoder(look):
    """Gradient of log_q_path at given latents: only through the latents."""
    model, x = make(look), images(2)
    p = model.particles(x, 3)
    leaf = p.latents.detach().requires_grad_()
    value = p._replace(latents=leaf).log_q_path.sum()
    everything = [leaf, *model.parameters()]
    found = torch.autograd.grad(value, everything, allow_unused=True)
    by_hand = torch.autograd.grad(p.q.log_prob(leaf).sum(), leaf)[0]
    torch.testing.assert_close(found[0], by_hand)
    assert all(gradient is None for gradient in found[1:])
    with torch.no_grad():
        torch.testing.assert_close(p.log_q_path, p.log_q)


def test_nll_agrees_with_all_draws_at_once():
    """Streamed in chunks, and by brute force over the same number of draws: equal within error."""
    model, x = make("straight").float(), images(3).float()
    torch.manual_seed(4)
    streamed = evaluation.nll(model, from_tensor(x), 4_000, rows=100)
    with torch.no_grad():
        log_w = model.particles(x, 40_000).log_w
    brute = math.log(len(log_w)) - log_w.logsumexp(0)
    error = (streamed.se.double() ** 2 + (log_w.softmax(0) ** 2).sum(0)).sqrt()
    assert ((streamed.nll - brute).abs() < 4.5 * error).all()
    curve = diagnostics.nll_curve(model, from_tensor(x), (10, 1_000))
    assert curve.nll.shape == (2, 3)


def test_ais_from_q_agrees_with_importance_sampling():
    model, x = make("straight").float(), images(2).float()
    torch.manual_seed(5)
    chains = ais.ais(model, x, n_distributions=150, chains=16, start="q", leapfrog=3)
    sampled = evaluation.nll(model, from_tensor(x), 20_000)
    error = (chains.se**2 + sampled.se**2).sqrt() + 0.02
    assert ((chains.log_p + sampled.nll).abs() < 4 * error).all()


def test_bdmc_from_q_encloses_what_importance_sampling_finds():
    model = make("straight").float()
    torch.manual_seed(7)
    with torch.no_grad():
        x, latents = ais.simulate(model, 4)
    lower, upper = ais.bdmc(model, x, latents, 100, chains=16, start="q", leapfrog=3)
    sampled = evaluation.nll(model, from_tensor(x), 20_000)
    # This q is poor, so that importance sampling may stop short of log p, but not beyond it.
    for bound in (lower, upper):
        error = (bound.se**2 + sampled.se**2).sqrt() + 0.02
        assert (bound.log_p + sampled.nll > -4 * error).all()
    error = (lower.se**2 + upper.se**2).sqrt() + 0.02
    assert ((lower.log_p - upper.log_p).abs() < 4 * error).all()
    assert ((upper.log_p + sampled.nll).abs() < 4).all()


def test_a_stack_of_second_looks_is_its_models(subtests):
    for look in LOOKS:
        alone = [make(look, seed=seed) for seed in (0, 1)]
        stacked = stacking.stack(alone)
        x = torch.stack([images(3, 0), images(3, 1)])
        torch.manual_seed(6)
        latents = stacked.posterior(x).rsample((4,))
        for i, model in enumerate(alone):
            with subtests.test(look=look, model=i):
                expected = model.posterior(x[i]).log_prob(latents[:, i])
                torch.testing.assert_close(stacked.posterior(x).log_prob(latents)[:, i], expected)


def test_the_decoder_is_trained_once_and_saved_once():
    model = make("straight")
    names = [name for name, _ in model.named_parameters()]
    assert len({parameter.data_ptr() for parameter in model.parameters()}) == len(names)
    assert not [name for name in names if name.startswith("encoder") and "warp" in name]
    again = make("straight", seed=1)
    again.load_state_dict(model.state_dict())
    x = images(2)
    torch.testing.assert_close(again.posterior(x).mean, model.posterior(x).mean)


def test_each_block_of_gradients_is_found():
    masks = gradients.blocks(make("straight"))
    assert {name: int(mask.sum()) for name, mask in masks.items()} == {
        "encoder": 2 * (48 * 7 + 7 + 7 * 5 + 5) + 2 * (5 * 2 + 2) + 2 * 7 + 7 + 2 * (5 * 3 + 3),
        "encoder z": 2 * (5 * 3 + 3),
        "encoder u": 2 * (5 * 2 + 2),
        "decoder": 3 * 7 + 7 + 7 * 5 + 5 + 5 * 48 + 48 + 2 * 6 + 6,
    }


def test_a_paired_estimator_says_that_it_needs_one_normal():
    pair = estimators.paired(estimators.stl, estimators.dreg)
    with pytest.raises(TypeError, match="draws z after u, so train it with one estimator"):
        pair(make("straight").particles(images(2), 3))


@pytest.mark.parametrize("look", models.LOOKS)
def test_the_probabilities_of_all_images_sum_to_one(look):
    """All 64 images of 2 x 3 binary pixels. A score of the straightened image has no such sum."""
    torch.manual_seed(7)
    model = models.build("affine", (2, 3), dim_z=2, dim_u=2, hidden=(8,), look=look, pose_std=0.5)
    everything = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 6).view(64, 1, 2, 3)
    found = evaluation.nll(model, from_tensor(everything), 20_000)
    p = found.nll.neg().exp()
    error = (p * found.se).square().sum().sqrt()
    assert error < 0.01
    assert abs(p.sum() - 1) < 4.5 * error
    assert p.max() > 2 * p.min()


@pytest.mark.parametrize("estimator", [estimators.stl, estimators.dreg])
@pytest.mark.parametrize("which", ["pose", "encoder"])
def test_estimators_are_unbiased_for_parameters_that_decoder_and_encoder_share(estimator, which):
    """W and b turn u into a pose in the decoder, and straighten the image in the encoder.

    By a t-test against the reparameterized gradient.
    """
    bound = bounds.elbo if estimator is estimators.stl else bounds.iwae
    torch.manual_seed(0)
    options = {"dim_z": 3, "dim_u": 2, "hidden": (7, 5)}
    # Small poses: where a map is nearly singular, a few draws decide on the whole gradient.
    model = models.build("affine", SIZE, look="straight", pose_std=0.02, **options).double()
    x = images(1).expand(600, -1, -1, -1)
    block = model.decoder.pose if which == "pose" else model.encoder
    parameters = [*block.parameters()]
    ways = estimator, estimators.reparameterized(bound)

    def gradients_of(way):
        return torch.autograd.grad(way(model.particles(x, 3)).mean(), parameters)

    torch.manual_seed(3)
    at, found = gradients_of(ways[1]), []  # the projection: on another estimate of the gradient
    for _ in range(50):
        slopes = [zip(at, gradients_of(way), strict=True) for way in ways]
        found.append(torch.stack([sum((a * g).sum() for a, g in each) for each in slopes]))
    both = torch.stack(found)
    off = evaluation.mean_se(both[:, 0] - both[:, 1])
    assert abs(off.mean) < 4 * off.se
    assert off.se < both.mean().abs() / 8, "the test can tell"


@pytest.mark.parametrize("look", LOOKS)
def test_the_nll_reads_an_image_once_and_straightens_few_at_a_time(look):
    """So memory does not grow with the number of draws."""
    model, seen, read, straightened = make(look).float(), [], [], []
    model.encoder.body.register_forward_hook(lambda _, args, __: seen.append(len(args[0])))
    model.encoder.read.register_forward_hook(
        lambda _, args, __: read.append(args[0][..., 0].numel())
    )
    whole = model.encoder.straightened
    model.encoder.straightened = lambda x, u, *rest: (
        straightened.append(u[..., 0].numel()) or whole(x, u, *rest)
    )
    evaluation.nll(model, from_tensor(images(5)), 300, rows=40)
    draws = 5 * 300
    assert sum(seen) == 5
    assert sum(read) == (draws if look == "straight" else 5)
    assert sum(straightened) == {"pose": 0, "straight-mean": 5, "straight": draws}[look]
    assert max(read) <= 40


def test_the_bound_is_differentiated_through_the_pose_that_straightens():
    """W acts in the decoder and in the encoder; by finite differences with the same noise."""
    model, x = make("straight"), images(3)
    weight = model.decoder.pose.weight

    def value() -> Tensor:
        torch.manual_seed(5)
        return bounds.elbo(model.particles(x, 4).log_w).mean()

    (slope,) = torch.autograd.grad(value(), [weight])
    torch.manual_seed(6)
    direction, step = torch.randn_like(weight), 1e-6
    ends = []
    with torch.no_grad():
        for sign in (1, -1):
            weight += sign * step * direction
            ends.append(value())
            weight -= sign * step * direction
    expected = (ends[0] - ends[1]) / (2 * step)
    torch.testing.assert_close((slope * direction).sum(), expected, rtol=1e-4, atol=1e-4)
