"""log p(x) by annealed importance sampling, and between two bounds on simulated images.

AIS (Neal 2001; for decoders Wu et al. 2017) walks chains of latents from a distribution that can be
drawn from, the prior or q(z, u | x), through intermediate ones to the posterior. Where q misses a
part of the posterior, importance sampling seldom finds it; a chain moves there. It costs hundreds
of gradients of the decoder for each chain.

Bidirectional Monte Carlo (BDMC; Grosse et al. 2015) uses that a simulated image comes with an
exact draw of its posterior: chains walked back from there bound log p(x) from above.
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

from tvae_core.models import VAE
from tvae_core.runtime import check_known, is_live

STARTS = ("prior", "q")
ROWS = 1_000  # latents decoded at once; bounds the memory
ACCEPTANCE = 0.65  # what step sizes are tuned to, the best for HMC in many dimensions (Neal 2011)
SPREAD = 4.0  # of the schedule: the sigmoid of Wu et al. (2017) from -4 to 4
TUNING = 60  # distributions that tuning walks through, at least
WINDOW = 9  # neighbouring distributions over which tuned step sizes are averaged


class AIS(NamedTuple):
    """A stochastic bound on log p(x) for each of N images, from C chains, in nats.

    Of forward chains `log_p` is log 1/C sum_c w_c, in expectation below log p(x); of reverse chains
    it is -log 1/C sum_c 1/w_c, in expectation above. `se` is its delta-method standard error, `ess`
    the effective number of chains, `acceptance` the share of proposals that were accepted. With few
    chains, or an ess near 1, `se` is too small.
    """

    log_p: Float[Tensor, "N"]
    se: Float[Tensor, "N"]
    ess: Float[Tensor, "N"]
    acceptance: Float[Tensor, "N"]
    log_w: Float[Tensor, "C N"]


class BDMC(NamedTuple):
    """Bounds on log p(x) from below and from above, in expectation, for N simulated images."""

    lower: AIS
    upper: AIS

    @property
    def gap(self) -> Float[Tensor, "N"]:
        """Upper minus lower bound: in expectation the sum of both errors."""
        return self.upper.log_p - self.lower.log_p


def ais(
    model: VAE,
    x: Float[Tensor, "N 1 H W"],
    n_distributions: int = 1_000,
    chains: int = 16,
    start: str = "prior",
    leapfrog: int = 10,
    rows: int = ROWS,
) -> AIS:
    """A lower bound on log p(x) of each image, tight for many distributions.

    Transitions are Hamiltonian Monte Carlo. Step sizes are tuned beforehand, for each image and
    distribution, on other chains: see `tune`.

    Args:
        x: images as the model sees them in training; binary ones for a density of binary images.
        n_distributions: steps of the path from the start to the posterior.
        start: "prior", or "q", which is nearer but may have lost a part of the posterior.
        leapfrog: steps of a proposal, one gradient of the decoder each.
        rows: latents decoded at once.

    Raises:
        ValueError: an unknown start, a number below 1, no images, or images of a wrong shape.
    """
    return _annealed(model, x, None, n_distributions, chains, start, leapfrog, rows)[0]


def bdmc(
    model: VAE,
    x: Float[Tensor, "N 1 H W"],
    latents: Float[Tensor, "N D"],
    n_distributions: int = 1_000,
    chains: int = 16,
    start: str = "prior",
    leapfrog: int = 10,
    rows: int = ROWS,
) -> BDMC:
    """Both bounds on log p(x) for images that `simulate` has made, with their latents.

    The gap tells how far AIS with the same options may be off on images like these. It says
    nothing of images unlike those that the model makes.

    Raises:
        ValueError: as `ais`, or not as many latents as images.
    """
    lower, upper = _annealed(model, x, latents, n_distributions, chains, start, leapfrog, rows)
    return BDMC(lower, upper)


@torch.no_grad()
def simulate(model: VAE, n: int) -> tuple[Float[Tensor, "N 1 H W"], Float[Tensor, "N D"]]:
    """n images from the model, and the latents they were made from.

    Given its image, such a latent vector is an exact draw from the posterior.
    """
    latents = model.sample_latents(n)
    return model.decoder(latents).sample(), latents


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
    """The forward bound of each image, and the reverse one if its latents are given."""
    check_known("start", start, STARTS)
    if min(n_distributions, chains, leapfrog, len(x)) < 1:
        raise ValueError(
            "need at least one of each, got "
            f"{n_distributions=}, {chains=}, {leapfrog=}, {len(x)} images"
        )
    if latents is not None and len(latents) != len(x):
        raise ValueError(
            f"each image needs the latents it was made from; got {len(latents)} for {len(x)} images"
        )
    betas = schedule(n_distributions)
    per_batch = max(1, rows // chains)
    parts: list[list[AIS]] = []
    bar = tqdm(total=len(x), desc="AIS", unit="image", disable=not is_live())
    for first in range(0, len(x), per_batch):
        path = Path.of(model, x[first : first + per_batch], start)
        steps = tune(path, betas, chains, leapfrog)
        forward = anneal(path, path.start.sample((chains,)), betas, steps, leapfrog)
        parts.append([_summary(*forward, sign=1)])
        if latents is not None:
            exact = latents[first : first + per_batch].expand(chains, -1, -1)
            backward = anneal(path, exact, betas, steps, leapfrog, reverse=True)
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
    """beta from 0 to 1 in n steps, small at both ends (as Wu et al. 2017)."""
    rising = torch.linspace(-SPREAD, SPREAD, n + 1, dtype=torch.float64).sigmoid()
    return (rising - rising[0]) / (rising[-1] - rising[0])


class Point(NamedTuple):
    """Latents of C chains for B images, with both ends' log-densities and their gradients there."""

    latents: Float[Tensor, "C B D"]
    start: Float[Tensor, "C B"]
    joint: Float[Tensor, "C B"]
    d_start: Float[Tensor, "C B D"]
    d_joint: Float[Tensor, "C B D"]

    def log_f(self, beta: float) -> Float[Tensor, "C B"]:
        """log of the intermediate density, which is not normalised."""
        return (1 - beta) * self.start + beta * self.joint

    def slope(self, beta: float) -> Float[Tensor, "C B D"]:
        """Gradient of `log_f` by the latents."""
        return (1 - beta) * self.d_start + beta * self.d_joint

    def where(self, accepted: Tensor, other: Point) -> Point:
        """This point where accepted, else the other."""
        return Point(
            *(
                torch.where(accepted.view(accepted.shape + (1,) * (a.ndim - accepted.ndim)), a, b)
                for a, b in zip(self, other, strict=True)
            )
        )


@dataclass(frozen=True)
class Path:
    """The geometric path f_beta = start^(1 - beta) p(x, latents)^beta for B images.

    `scale` is q's deviation: at beta = 1 the posterior is about so wide along each latent.
    """

    start: Normal
    joint: Callable[[Tensor], Tensor]
    scale: Float[Tensor, "B D"]

    @classmethod
    @torch.no_grad()
    def of(cls, model: VAE, x: Float[Tensor, "B 1 H W"], start: str) -> Path:
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
        """How wide f_beta is along each latent, if q is right: precisions mix like log-densities.

        HMC measures its steps in it, so that one step size suits latents that the image pins down
        and latents that it leaves alone. It depends on the image and not on the chain.
        """
        return ((1 - beta) / self.start.scale**2 + beta / self.scale**2).rsqrt()


def anneal(
    path: Path,
    latents: Float[Tensor, "C B D"],
    betas: Float[Tensor, "T+1"],
    steps: Float[Tensor, "T+1 B"],
    leapfrog: int,
    reverse: bool = False,
) -> tuple[Float[Tensor, "C B"], Float[Tensor, "B"]]:
    """log w of each chain, and the share of accepted proposals of each image.

    Forward chains begin with draws of the path's start, and E[w] = p(x). Reverse chains begin with
    exact draws of the posterior and take the same transitions in the opposite order, and
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
    return log_w, torch.stack(rates).mean(0)


def transition(
    path: Path, point: Point, beta: float, step: Float[Tensor, "B"], leapfrog: int
) -> tuple[Point, Float[Tensor, "C B"]]:
    """One HMC transition, which leaves f_beta as it is; also the probability of its acceptance.

    The step size is jittered by half, the same way wherever the chain is: a proposal of fixed
    length could come back to where it began.
    """
    momentum = torch.randn_like(point.latents)
    step = step * (0.5 + torch.rand_like(point.joint))
    proposal, turned = walk(path, point, momentum, beta, step, leapfrog)

    def log_density(point: Point, momentum: Tensor) -> Tensor:
        return point.log_f(beta) - momentum.square().sum(-1) / 2

    log_ratio = log_density(proposal, turned) - log_density(point, momentum)
    # Not a number, where a step went out of all bounds, counts as rejected.
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
    """Leapfrog steps along f_beta, in units of the path's width (Neal 2011, section 5.2.3.3).

    Reversible: from its end with the momentum negated, it leads back. It keeps volume, so that no
    Jacobian enters the acceptance.
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

    Found on chains that walk a shorter path of the same kind and are then thrown away. The chains
    that are weighed run with these sizes given, so each of their transitions leaves its
    distribution as it is, which is all that AIS asks. A step size that followed the weighed chain
    itself would depend on where that has been, and E[w] = p(x) would be lost.
    """
    point = path.at(path.start.sample((chains,)))
    log_step = torch.full_like(path.scale[:, 0], -math.log(path.scale.shape[-1]) / 4)
    found = []
    pilot = schedule(max(TUNING, (len(betas) - 1) // 10))
    for beta in pilot.tolist():
        point, rate = transition(path, point, beta, log_step.exp(), leapfrog)
        log_step = log_step + 0.5 * (rate.mean(0) - ACCEPTANCE)
        found.append(log_step)
    # Each beta takes the sizes found around it: single ones are as noisy as a few proposals.
    nearest = torch.searchsorted(pilot, betas).clamp(max=len(pilot) - 1).to(path.scale.device)
    smooth = torch.stack(found).unfold(0, WINDOW, 1).mean(-1)
    return smooth[(nearest - WINDOW // 2).clamp(0, len(smooth) - 1)].exp()
