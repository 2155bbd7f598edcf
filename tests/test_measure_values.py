"""What each kind of measurement measures, against a computation by hand on a tiny model.

The draws are the same, because both start from the same seed and draw in the same order.
"""

import dataclasses
import math

import numpy as np
import pytest
import torch
from linear_gaussian import LinearGaussian
from torch import Tensor
from torch.distributions import Bernoulli, ContinuousBernoulli, Normal

from tvae_core import ais, data, diagnostics
from tvae_core.data import Images
from tvae_core.experiments import kinds, measure
from tvae_core.experiments.kinds import SNR_ESTIMATORS, Options
from tvae_core.models import VAE
from tvae_core.runtime import seeded

OPTIONS = Options(
    draws=12, distributions=4, chains=3, leapfrog=2, start="prior", repeats=5, steps=3, rows=400
)
SAMPLES = 7  # for importance sampling beside AIS


@pytest.fixture(autouse=True)
def few_samples(monkeypatch) -> None:
    monkeypatch.setattr(kinds, "IS_SAMPLES", SAMPLES)


def measured(kind: str, model: VAE, images: Images, part: object) -> dict:
    with seeded(0):
        return kinds.KINDS[kind].measure(model, images, part, OPTIONS)


def log_weights(model: VAE, x: Tensor, k: int, pixels: type = Bernoulli) -> Tensor:
    q = model.posterior(x)
    z = q.rsample((k,))
    decoded = pixels(logits=model.decoder(z).logits, validate_args=False)
    likelihood = decoded.log_prob(x).flatten(2).sum(-1)
    return likelihood + (Normal(0, 1).log_prob(z) - q.log_prob(z)).sum(-1)


def summed_up(log_w: Tensor, sign: int = 1) -> dict[str, Tensor]:
    """NLL, error and effective sample size from weights; with sign -1, from their inverses."""
    w = (sign * log_w).double().exp()
    k = len(w)
    relative = w / w.mean(0)
    ess = k**2 / relative.square().sum(0)
    error = (relative.var(0, correction=0) / k).sqrt()
    return {"nll": -sign * w.mean(0).log(), "ess": ess, "se": error}


def check(found: list[float], expected: Tensor, rtol: float = 1e-3, atol: float = 2e-5) -> None:
    torch.testing.assert_close(
        torch.tensor(found).double(), expected.double(), rtol=rtol, atol=atol
    )


def test_with_an_exact_posterior_every_draw_gives_log_p():
    """Then k draws have an ESS of k, and no bias; one of them is more than half of all at k = 1."""
    model = LinearGaussian()
    images = model.images(4)
    exact = -model.log_prob(images.x)[1:]
    found = measured("nll", model, images, slice(1, 4))
    ks = [1, 2, 5, 10]
    for row, k in enumerate(ks):
        check(found["nll"][row], exact)
        check(found["ess"][row], torch.full((3,), float(k)))
        check(found["delta"][row], torch.zeros(3))
        if k != 2:  # where rounding decides which of two equal weights is larger
            check(found["dominated"][row], torch.full((3,), float(k == 1)))
        if k > 1:
            check(found["jackknife"][row], torch.zeros(3))
    assert found["jackknife"][0] == [None] * 3
    assert all(len(rows) == len(ks) for rows in found.values())


def test_with_another_posterior_more_draws_have_less_bias():
    """Both estimates of the bias find the bias, and the weights' spread is what the ESS says."""
    model = LinearGaussian(shift=0.3, widen=1.2)
    images = model.images(5)
    with seeded(1):
        options = Options(draws=20_000, rows=100_000)
        found = kinds.measure_nll(model, images, slice(0, 5), options)
    ks = [k for k in kinds.diagnostics.KS if k <= 20_000]
    row = ks.index(10)
    bias = torch.tensor(found["nll"][row]) + model.log_prob(images.x)
    torch.testing.assert_close(
        torch.tensor(found["jackknife"][row]).double(), bias, rtol=0.3, atol=4e-3
    )
    torch.testing.assert_close(
        torch.tensor(found["delta"][row]).double(), bias, rtol=0.3, atol=4e-3
    )
    share = torch.tensor(found["ess"][-1]) / 20_000
    assert ((share > 0.3) & (share < 0.9)).all()


def test_ais_is_written_down_with_its_own_error_and_ess(tiny):
    model, images = tiny
    images = data.binarize_fixed(images)
    found = measured("ais", model, images, slice(1, 4))
    x = images.x[1:4]
    with seeded(0):
        annealed = ais.ais(model, x, n_distributions=4, chains=3, start="prior", leapfrog=2)
        sampled = summed_up(log_weights(model, x, SAMPLES))
    assert annealed.log_w.shape == (3, 3)
    for name, value in summed_up(annealed.log_w).items():
        check(found[f"ais_{name}"], value)
    check(found["ais_acceptance"], annealed.acceptance)
    for name, value in sampled.items():
        check(found[f"is_{name}"], value)


def test_bdmc_brackets_the_nll_of_images_of_the_model_itself(tiny):
    model, images = tiny
    found = measured("bdmc", model, images, slice(1, 4))
    with seeded(0):
        x, latents = ais.simulate(model, 3)
        options = {"n_distributions": 4, "chains": 3, "start": "prior", "leapfrog": 2}
        forward, backward = ais.bdmc(model, x, latents, **options)
        sampled = summed_up(log_weights(model, x, SAMPLES))
    # A lower bound on log p comes from forward chains, an upper one from the inverse weights of
    # chains that start at the image's own latents.
    for name, value in summed_up(forward.log_w).items():
        check(found[f"lower_{name}"], value)
    for name, value in summed_up(backward.log_w, -1).items():
        check(found[f"upper_{name}"], value)
    check(found["lower_acceptance"], forward.acceptance)
    check(found["upper_acceptance"], backward.acceptance)
    check(found["is_nll"], sampled["nll"])
    check(found["is_se"], sampled["se"])
    q = model.posterior(x)
    check(found["reach"], ((latents - q.mean) / q.stddev).abs().max(-1).values)


def test_three_bounds_come_from_the_same_draws(tiny):
    model, images = tiny
    for kind in ("on-test", "on-train"):
        found = measured(kind, model, images, slice(1, 4))
        with seeded(0):
            log_w = log_weights(model, images.x[1:4], SAMPLES)
        assert set(found) == {"elbo", "iwae5", "nll"}
        check(found["elbo"], -log_w.mean(0))
        check(found["iwae5"], summed_up(log_w[:5])["nll"])
        check(found["nll"], summed_up(log_w)["nll"])
    assert kinds.KINDS["on-train"].split == "train"
    assert {how.split for name, how in kinds.KINDS.items() if name != "on-train"} == {"test"}


def test_a_mixture_is_scored_beside_the_encoder_that_it_helps(tiny, monkeypatch):
    monkeypatch.setattr(kinds, "IS_SAMPLES", 40)
    model, images = tiny
    images = data.binarize_fixed(images)
    found, x = measured("mixture", model, images, slice(1, 4)), images.x[1:4]
    with seeded(0):
        fitted = diagnostics.fit_proposal(model, x, OPTIONS.steps)
        own = log_weights(model, x, 40)
        qs = [model.posterior(x), fitted(x)]
        z = torch.cat([q.rsample((20,)) for q in qs])
    joint = Normal(0, 1).log_prob(z).sum(-1) + model.decoder(z).log_prob(x)
    log_q = torch.stack([q.log_prob(z).sum(-1) for q in qs]).logsumexp(0) - math.log(2)
    for name, log_w in {"own": own, "mixed": joint - log_q}.items():
        check(found[f"{name}_nll"], summed_up(log_w.detach())["nll"])
        check(found[f"{name}_ess"], summed_up(log_w.detach())["ess"])
        check(found[f"{name}_pareto"], diagnostics.pareto_k(log_w.detach()))


def test_coupling_is_that_of_chains_and_of_draws_from_q(tiny):
    model, images = tiny
    options, x = dataclasses.replace(OPTIONS, draws=40), images.x[1:3]
    with seeded(0):
        found = kinds.measure_coupling(model, images, slice(1, 3), options)
    with seeded(0):
        drawn = ais.posterior_draws(model, x, 40, 4, chains=3, start="prior", leapfrog=2)
        of_q = model.posterior(x).rsample((120,))

    def correlated(z: Tensor, u: Tensor) -> Tensor:
        """By numpy, one image at a time."""
        values = []
        for i in range(2):
            both = np.corrcoef(np.concatenate([z[:, i], u[:, i]], 1).T.astype(float))
            parts = (both, both[:3, :3], both[3:, 3:])
            whole, of_z, of_u = (np.linalg.slogdet(part)[1] for part in parts)
            values.append((of_z + of_u - whole) / 2)
        return torch.tensor(values)

    shifted = torch.cat([drawn[..., :3], drawn[:, [2, 0, 1], :, 3:]], -1)
    for name, draws in {"posterior": drawn, "mismatched": shifted}.items():
        flat = draws.flatten(0, 1).detach().numpy()
        check(found[name], correlated(flat[..., :3], flat[..., 3:]))
    of_q = of_q.detach().numpy()
    check(found["q"], correlated(of_q[..., :3], of_q[..., 3:]))


def test_units_are_the_variance_of_the_means_and_the_kl_of_each_latent(tiny):
    model, images = tiny
    found = measured("units", model, images, slice(0, 5))
    q = model.posterior(images.x)
    kl = (q.mean.square() + q.stddev.square() - 1) / 2 - q.stddev.log()
    assert found["dim_z"] == 3
    check(found["kl"], kl.mean(0))
    check(found["variance"], q.mean.var(0))


def test_pixels_are_scored_by_four_conventions(tiny):
    model, images = tiny
    found = measured("pixels", model, images, slice(1, 4))
    scored = {
        "gray": (images, Bernoulli),
        "density": (images, ContinuousBernoulli),
        "fixed": (data.binarize_fixed(images), Bernoulli),
        "redrawn": (data.binarize_fixed(images, seed=1), Bernoulli),
    }
    with seeded(0):
        for name, (seen, pixels) in scored.items():
            log_w = log_weights(model, seen.x[1:4], OPTIONS.draws, pixels)
            check(found[name], summed_up(log_w)["nll"])
    check(found["entropy"], Bernoulli(images.x[1:4]).entropy().flatten(1).sum(1))


BOUNDS = {
    "elbo": lambda log_w: log_w.mean(0),
    "iwae": lambda log_w: log_w.logsumexp(0) - math.log(len(log_w)),
    "miwae8": lambda log_w: BOUNDS["iwae"](log_w.unflatten(0, (-1, 8))).mean(0),
    "ciwae": lambda log_w: (BOUNDS["elbo"](log_w) + BOUNDS["iwae"](log_w)) / 2,
}


def test_an_estimator_of_the_gradient_lab_is_what_its_name_says():
    """It has the value of its bound. If q is exact, those of less variance have no noise left."""
    for name, estimator in SNR_ESTIMATORS.items():
        bound, _, kind = name.partition(", ")
        for shift in (0.0, 0.5):
            moved = torch.tensor(shift, dtype=torch.float64, requires_grad=True)
            model = LinearGaussian(shift=moved)
            with seeded(0):
                particles = model.particles(LinearGaussian().images(3).x, 16)
            value = estimator(particles)
            torch.testing.assert_close(value, BOUNDS[bound](particles.log_w))
            (slope,) = torch.autograd.grad(value.mean(), moved)
            assert (abs(slope) < 1e-9) == (kind != "" and shift == 0), (name, shift)


def test_signal_and_noise_are_those_of_gradients_with_k_draws(tiny):
    model, images = tiny
    for name, k in (("iwae", 8), ("elbo", 2), ("miwae8", 16)):
        found = measured("snr", model, images, (name, k))
        assert (found["estimator"], found["k"]) == (name, k)
        decoder = list(model.decoder.parameters())
        gradients = []
        with seeded(0):
            for _ in range(OPTIONS.repeats):
                bound = BOUNDS[name](log_weights(model, images.x, k)).mean()
                parts = torch.autograd.grad(bound, decoder)
                gradients.append(torch.cat([part.flatten() for part in parts]).double())
        signal, noise = torch.stack(gradients).mean(0), torch.stack(gradients).var(0)
        used = noise > 0
        ratio = (signal[used].abs() / noise[used].sqrt()).sort().values
        block = found["snr"]["decoder"]
        total = noise.sum().item()
        square = signal[used].square().sum().item() - total / OPTIONS.repeats
        assert block["n"] == used.sum()
        assert block["noise"] == pytest.approx(total, rel=1e-3)
        assert block["signal"] == pytest.approx(square, rel=1e-2, abs=1e-3 * total)
        assert block["mean"] == pytest.approx(ratio.mean().item(), rel=1e-2)
        assert block["median"] == pytest.approx(ratio[(len(ratio) - 1) // 2].item(), rel=1e-2)
        assert block["whole"] == math.sqrt(max(block["signal"], 0) / block["noise"])


def test_a_summary_prints_the_mean_of_each_column():
    parts = [{"gray": [1.0, 2.0], "fixed": [5.0, 5.0]}, {"gray": [6.0], "fixed": [8.0]}]
    record = {"kind": "pixels", "model": "plain-vae", "data": {"n": 3}, "seconds": 6.0}
    printed = measure.summary({**record, "parts": parts}).splitlines()
    assert [line.split() for line in printed[1:]] == [["gray", "3.000"], ["fixed", "6.000"]]
    assert printed[0] == "pixels, plain-vae, 3 images, 2.00 s an image"
    blocks = {"encoder": {"whole": 0.25}, "decoder": {"whole": 2.0}}
    snr = {**record, "kind": "snr", "parts": [{"estimator": "iwae", "k": 4, "snr": blocks}]}
    words = measure.summary(snr).splitlines()[1].split()
    assert words == ["iwae", "k=4", "encoder", "0.250", "decoder", "2.000"]
    units = {"dim_z": 2, "variance": [0.5, 0.001, 0.02, 0.02, 0.0], "kl": [0.0] * 5}
    printed = measure.summary({**record, "kind": "units", "parts": [units]})
    assert printed.endswith("active: 1 of 2 in z, 2 of 3 in u")


def test_mutual_information_of_normals_with_known_correlations():
    """z = (a, b, c), u = (d, e): pairs (a, d) and (b, e) correlate, and mixing each part by an
    invertible matrix changes nothing."""
    rho = torch.tensor([0.9, 0.5], dtype=torch.float64)
    with seeded(8):
        z = torch.randn(100_000, 4, 3, dtype=torch.float64)
        noise = torch.randn(100_000, 4, 2, dtype=torch.float64)
        u = rho * z[..., :2] + (1 - rho**2).sqrt() * noise
        mix_z, mix_u = torch.randn(3, 3).double(), torch.randn(2, 2).double()
    expected = -torch.log1p(-(rho**2)).sum() / 2
    found = kinds.mutual_information(z, u)
    assert found.shape == (4,)
    torch.testing.assert_close(found, expected.expand(4), rtol=0, atol=0.02)
    moved = kinds.mutual_information(z @ mix_z + 3, u @ mix_u - 1)
    torch.testing.assert_close(found, moved)


def test_mutual_information_of_independent_draws_is_as_high_as_said():
    with seeded(9):
        z, u = torch.randn(500, 300, 10), torch.randn(500, 300, 4)
    assert abs(kinds.mutual_information(z, u).mean() - 10 * 4 / (2 * 500)) < 0.004


def test_mutual_information_needs_more_draws_than_latents():
    with pytest.raises(ValueError, match="need more draws than latents; got 5 of 5 latents"):
        kinds.mutual_information(torch.randn(5, 3), torch.randn(5, 2))
