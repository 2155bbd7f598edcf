"""Estimates of log p(x) by annealed importance sampling, with two-sided bounds on simulated images.

AIS (Neal 2001; for decoders Wu et al. 2017) moves chains of latents from a distribution that we can
sample, the prior or q(z, u | x), through intermediate distributions to the posterior. If q misses
part of the posterior, importance sampling rarely draws from that part, but a chain can move there.
Each chain takes about n_distributions * leapfrog gradients of the decoder: 10,000 by default.

Bidirectional Monte Carlo (BDMC; Grosse et al. 2015) works on simulated images, each of which comes
with an exact draw from its posterior: chains run in reverse from there bound log p(x) from above.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Normal
from tqdm.auto import tqdm

from tvae_core.checks import check_known
from tvae_core.models import VAE
from tvae_core.posteriors import Ordered
from tvae_core.runtime import is_live

STARTS = ("prior", "q")
ROWS = 1_000  # latents decoded at once, which bounds the memory
ACCEPTANCE = 0.65  # the rate that step sizes aim at, optimal for HMC in many dimensions (Neal 2011)
SPREAD = 4.0  # the schedule is a sigmoid from -4 to 4 (Wu et al. 2017)
TUNING = 60  # least number of distributions in the tuning run
WINDOW = 9  # tuned step sizes are averaged over this many neighbouring distributions


class AIS(NamedTuple):
    """A stochastic bound on log p(x) for each of N images, from C chains, in nats.

    For forward chains `log_p` is log 1/C sum_c w_c, in expectation below log p(x); for reverse
    chains it is -log 1/C sum_c 1/w_c, in expectation above. `se` is its delta-method standard
    error, `ess` the effective number of chains, `acceptance` the fraction of accepted proposals.
    With few chains, or an ess near 1, `se` is too small.
    """

    log_p: Float[Tensor, "N"]
    se: Float[Tensor, "N"]
    ess: Float[Tensor, "N"]
    acceptance: Float[Tensor, "N"]
    log_w: Float[Tensor, "C N"]


class BDMC(NamedTuple):
    """A lower and an upper bound on log p(x), in expectation, for each of N simulated images."""

    lower: AIS
    upper: AIS

    @property
    def gap(self) -> Float[Tensor, "N"]:
        """Upper minus lower bound: in expectation, the sum of their two errors."""
        return self.upper.log_p - self.lower.log_p


def ais(
    model: VAE,
    x: Float[Tensor, "N C H W"],
    n_distributions: int = 1_000,
    chains: int = 16,
    start: str = "prior",
    leapfrog: int = 10,
    rows: int = ROWS,
) -> AIS:
    """A lower bound on log p(x) of each image, tighter with more distributions.

    Transitions are Hamiltonian Monte Carlo. Step sizes are tuned beforehand on separate chains, for
    each image and distribution: see `tune`.

    Args:
        x: images as in training; they must be binary if p(x) is to be a density of binary images.
        n_distributions: annealing steps from the start to the posterior.
        start: "prior", or "q", which is closer to the posterior but may miss part of it.
        leapfrog: leapfrog steps per proposal, each with one gradient of the decoder.
        rows: latents decoded at once.
    """
    return _annealed(model, x, None, n_distributions, chains, start, leapfrog, rows)[0]


def bdmc(
    model: VAE,
    x: Float[Tensor, "N C H W"],
    latents: Float[Tensor, "N D"],
    n_distributions: int = 1_000,
    chains: int = 16,
    start: str = "prior",
    leapfrog: int = 10,
    rows: int = ROWS,
) -> BDMC:
    """Lower and upper bounds on log p(x), for images and latents from `simulate`.

    The gap shows how far off AIS with the same options may be on images like these. It says nothing
    about images that the model would not generate.
    """
    lower, upper = _annealed(model, x, latents, n_distributions, chains, start, leapfrog, rows)
    return BDMC(lower, upper)


@torch.no_grad()
def simulate(model: VAE, n: int) -> tuple[Float[Tensor, "N C H W"], Float[Tensor, "N D"]]:
    """n images sampled from the model, and the latents that generated them.

    Given its image, each latent vector is an exact draw from the posterior.
    """
    latents = model.sample_latents(n)
    pixels = model.decoder(latents)
    if not hasattr(pixels, "sample"):
        raise TypeError(f"a {type(pixels).__name__} cannot be sampled: it has no method `sample`")
    return pixels.sample(), latents


def posterior_draws(
    model: VAE,
    x: Float[Tensor, "N C H W"],
    n: int = 200,
    n_distributions: int = 200,
    chains: int = 16,
    start: str = "q",
    leapfrog: int = 10,
) -> Float[Tensor, "n C N D"]:
    """n draws of the latents by each of C chains, from p(z, u | x) of each image.

    The chains are annealed as in `ais`, resampled by their weights, so that each mode is met about
    as often as it deserves, and then make n transitions. Draws of one chain depend on each other.
    """
    check_known("start", start, STARTS)
    path, betas = Path.of(model, x, start), schedule(n_distributions)
    steps = tune(path, betas, chains, leapfrog)
    point, log_w, _ = anneal(path, path.start.sample((chains,)), betas, steps, leapfrog)
    chosen = log_w.T.softmax(-1).multinomial(chains, replacement=True).T
    point = path.at(point.latents.take_along_dim(chosen.unsqueeze(-1), 0))
    drawn = []
    for _ in range(n):
        point, _ = transition(path, point, 1.0, steps[-1], leapfrog)
        drawn.append(point.latents)
    return torch.stack(drawn)


def _annealed(
    model: VAE,
    x: Tensor,
    latents: Tensor | None,
    n_distributions: int,
    chains: int,
    start: str,
    leapfrog: int,
    rows: int,
) -> list[AIS]:
    """The forward bound for each image, and the reverse bound too if latents are given."""
    check_known("start", start, STARTS)
    if latents is not None and len(latents) != len(x):
        raise ValueError(
            f"each image needs its own latents; got {len(latents)} for {len(x)} images"
        )
    betas = schedule(n_distributions)
    per_batch = max(1, rows // chains)
    parts: list[list[AIS]] = []
    bar = tqdm(total=len(x), desc="AIS", unit="image", disable=not is_live())
    for first in range(0, len(x), per_batch):
        path = Path.of(model, x[first : first + per_batch], start)
        steps = tune(path, betas, chains, leapfrog)
        forward = anneal(path, path.start.sample((chains,)), betas, steps, leapfrog)[1:]
        parts.append([_summary(*forward, sign=1)])
        if latents is not None:
            exact = latents[first : first + per_batch].expand(chains, -1, -1)
            backward = anneal(path, exact, betas, steps, leapfrog, reverse=True)[1:]
            parts[-1].append(_summary(*backward, sign=-1))
        bar.update(path.scale.shape[0])
    bar.close()
    return [
        AIS(*(torch.cat(field, -1).cpu() for field in zip(*direction, strict=True)))
        for direction in zip(*parts, strict=True)
    ]


def _summary(log_w: Float[Tensor, "C B"], acceptance: Float[Tensor, "B"], sign: int) -> AIS:
    chains, signed = len(log_w), sign * log_w
    total = signed.logsumexp(0)
    ess = (2 * total - (2 * signed).logsumexp(0)).exp()
    return AIS(
        log_p=sign * (total - math.log(chains)),
        se=(1 / ess - 1 / chains).clamp(min=0).sqrt(),
        ess=ess,
        acceptance=acceptance,
        log_w=log_w,
    )


def schedule(n: int) -> Float[Tensor, "n+1"]:
    """beta from 0 to 1 in n steps, which are smallest at both ends (as in Wu et al. 2017)."""
    rising = torch.linspace(-SPREAD, SPREAD, n + 1, dtype=torch.float64).sigmoid()
    return (rising - rising[0]) / (rising[-1] - rising[0])


class Point(NamedTuple):
    """Latents of C chains for B images, with the path's two log-densities and their gradients."""

    latents: Float[Tensor, "C B D"]
    start: Float[Tensor, "C B"]
    joint: Float[Tensor, "C B"]
    d_start: Float[Tensor, "C B D"]
    d_joint: Float[Tensor, "C B D"]

    def log_f(self, beta: float) -> Float[Tensor, "C B"]:
        """Log of the unnormalised intermediate density f_beta."""
        return (1 - beta) * self.start + beta * self.joint

    def slope(self, beta: float) -> Float[Tensor, "C B D"]:
        """Gradient of `log_f` with respect to the latents."""
        return (1 - beta) * self.d_start + beta * self.d_joint

    def where(self, accepted: Tensor, other: Point) -> Point:
        """This point where `accepted`, the other point elsewhere."""
        return Point(
            *(
                torch.where(accepted.view(accepted.shape + (1,) * (a.ndim - accepted.ndim)), a, b)
                for a, b in zip(self, other, strict=True)
            )
        )


@dataclass(frozen=True)
class Path:
    """The geometric path f_beta = start^(1 - beta) p(x, latents)^beta for B images.

    `scale` is q's standard deviation, roughly the width of the posterior along each latent.
    """

    start: Normal | Ordered
    joint: Callable[[Tensor], Tensor]
    scale: Float[Tensor, "B D"]

    @classmethod
    @torch.no_grad()
    def of(cls, model: VAE, x: Float[Tensor, "B C H W"], start: str) -> Path:
        q = model.posterior(x)
        prior = Normal(torch.zeros_like(q.loc), torch.ones_like(q.scale), validate_args=False)

        def joint(latents: Tensor) -> Tensor:
            return prior.log_prob(latents).sum(-1) + model.decoder(latents).log_prob(x)

        return cls({"prior": prior, "q": q}[start], joint, q.scale)

    def at(self, latents: Float[Tensor, "C B D"]) -> Point:
        with torch.enable_grad():
            latents = latents.detach().requires_grad_()
            values = self.start.log_prob(latents).sum(-1), self.joint(latents)
            slopes = (torch.autograd.grad(value.sum(), latents)[0] for value in values)
        return Point(latents.detach(), *(value.detach() for value in values), *slopes)

    def width(self, beta: float) -> Float[Tensor, "B D"]:
        """Width of f_beta along each latent, if q is right: precisions mix like log-densities.

        HMC scales its steps by it, so that one step size suits both latents that the image
        determines and latents that it does not. It depends on the image, not on the chain.
        """
        return ((1 - beta) / self.start.scale**2 + beta / self.scale**2).rsqrt()


def anneal(
    path: Path,
    latents: Float[Tensor, "C B D"],
    betas: Float[Tensor, "T+1"],
    steps: Float[Tensor, "T+1 B"],
    leapfrog: int,
    reverse: bool = False,
) -> tuple[Point, Float[Tensor, "C B"], Float[Tensor, "B"]]:
    """Where chains end, log w of each, and the fraction of accepted proposals for each image.

    Forward chains start at draws from the path's start, and E[w] = p(x). Reverse chains start at
    exact draws from the posterior and make the same transitions in the opposite order, and
    E[1/w] = 1/p(x). `steps[t]` is the step size at `betas[t]`.
    """
    point = path.at(latents)
    log_w = torch.zeros_like(point.joint)
    rates: list[Tensor] = []
    times = range(1, len(betas))
    for t in reversed(times) if reverse else times:
        beta, rise = float(betas[t]), float(betas[t] - betas[t - 1])
        if not reverse:
            log_w = log_w + rise * (point.joint - point.start)
        point, rate = transition(path, point, beta, steps[t], leapfrog)
        rates.append(rate.mean(0))
        if reverse:
            log_w = log_w + rise * (point.joint - point.start)
    return point, log_w, torch.stack(rates).mean(0)


def transition(
    path: Path, point: Point, beta: float, step: Float[Tensor, "B"], leapfrog: int
) -> tuple[Point, Float[Tensor, "C B"]]:
    """One HMC transition, which leaves f_beta invariant, and its acceptance probability.

    The step size is jittered by up to half, independently of the chain's position, because
    trajectories of fixed length can return to their starting point.
    """
    momentum = torch.randn_like(point.latents)
    step = step * (0.5 + torch.rand_like(point.joint))
    proposal, turned = walk(path, point, momentum, beta, step, leapfrog)

    def log_density(point: Point, momentum: Tensor) -> Tensor:
        return point.log_f(beta) - momentum.square().sum(-1) / 2

    log_ratio = log_density(proposal, turned) - log_density(point, momentum)
    # A diverging trajectory gives NaN, which counts as rejected.
    rate = log_ratio.clamp(max=0).exp().nan_to_num(0.0)
    return proposal.where(torch.rand_like(rate) < rate, point), rate


def walk(
    path: Path,
    point: Point,
    momentum: Float[Tensor, "C B D"],
    beta: float,
    step: Float[Tensor, "C B"],
    leapfrog: int,
) -> tuple[Point, Float[Tensor, "C B D"]]:
    """Leapfrog steps for f_beta, in units of the path's width (Neal 2011, section 5.2.3.3).

    Reversible: from the end, negated momentum leads back to the start. Volume is preserved, so no
    Jacobian enters the acceptance probability.
    """
    step, width = step.unsqueeze(-1), path.width(beta)
    momentum = momentum + step / 2 * width * point.slope(beta)
    for left in reversed(range(leapfrog)):
        point = path.at(point.latents + step * width * momentum)
        momentum = momentum + (step if left else step / 2) * width * point.slope(beta)
    return point, momentum


def tune(
    path: Path, betas: Float[Tensor, "T+1"], chains: int, leapfrog: int
) -> Float[Tensor, "T+1 B"]:
    """A step size for each distribution and image, at which about 65 % of proposals are accepted.

    It is tuned on separate chains, which follow a shorter schedule and are then discarded. For the
    weighted chains these sizes are constants, so each transition leaves its distribution invariant,
    which is all that AIS requires. If a step size adapted to the weighted chain itself, it would
    depend on that chain's history, and E[w] = p(x) would no longer hold.
    """
    point = path.at(path.start.sample((chains,)))
    log_step = torch.full_like(path.scale[:, 0], -math.log(path.scale.shape[-1]) / 4)
    found = []
    pilot = schedule(max(TUNING, (len(betas) - 1) // 10))
    for beta in pilot.tolist():
        point, rate = transition(path, point, beta, log_step.exp(), leapfrog)
        log_step = log_step + 0.5 * (rate.mean(0) - ACCEPTANCE)
        found.append(log_step)
    # Average over neighbouring betas, because each single size rests on a few proposals only.
    nearest = torch.searchsorted(pilot, betas).clamp(max=len(pilot) - 1).to(path.scale.device)
    smooth = torch.stack(found).unfold(0, WINDOW, 1).mean(-1)
    return smooth[(nearest - WINDOW // 2).clamp(0, len(smooth) - 1)].exp()
