"""Training on your own images: settings that suit most sets, and names for what goes wrong.

The loop is `training.fit`; this module chooses what it is given. Two choices differ from the
book's other models. The encoder straightens an image before it reads what it shows (chapter 11).
And the pose comes first: over the first half of the epochs z is expensive and u is free, so that
whatever a turn or a shift can explain is not explained by z.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from torch import Tensor

from tvae_core import bounds, data, evaluation, models, training
from tvae_core.checks import check_known
from tvae_core.data import Images
from tvae_core.estimators import Estimator, Weight
from tvae_core.experiments.runner import hold_out, spread
from tvae_core.models import VAE, Shape
from tvae_core.own import convolutions, expected, shards
from tvae_core.own.pixels import best_constant, make_pixels
from tvae_core.particles import Particles
from tvae_core.runtime import NAMES, pick_device, seeded, write_atomically
from tvae_core.training import History
from tvae_core.warps import WARPS, make_warp

POSED = tuple(name for name in WARPS if name != "identity")
LEAST = 20  # images
VISITS = 240_000  # images shown in all of training, unless the epochs are given
EPOCHS = (12, 600)  # at least and at most
BATCH = 100
PEAK = 1e-3  # the highest learning rate
DIM_Z = 16
HIDDEN = 256
HELD_OUT = 0.1
# First poses of about so much: an eighth of a turn, and a fifth of the image's side.
POSE_STD = 0.4
SEEDS = 1_000_003  # from one process's seed to the next one's
STRICT = 10.0  # by how much more z costs at first
PATIENCE = 0.25  # of the epochs without a better held-out bound, and training ends
WHOLE_ROWS = 500  # trained images that are looked at
# The share of the gain over the mean image, as measured on training images, that new images may
# lack. After training on 2,000 letters, new letters lack more than that, and their poses are
# visibly less exact (results/own_images.json).
MEMORISED = 0.25


class Problem(NamedTuple):
    """Something that went wrong: its name, what was seen, and what to change."""

    name: str
    seen: str
    change: str

    def __str__(self) -> str:
        return f"{self.name}: {self.seen}. {self.change}"


CHANGES = {
    "nan": "Halve --rate, and look for a damaged picture among the brightest ones.",
    "not learning": "Raise --epochs or --rate; if the pictures have little contrast, crop them.",
    "dead warp": "Check that the pictures differ in pose; raise --epochs, or lower --latents.",
    "collapse": "If the pictures differ in more than their pose, raise --epochs or lower --rate.",
    "shrinking": "Crop the pictures so that the thing fills about half of their side.",
    "folding": "Choose a warp that cannot fold: --warp similarity.",
    "blurry": "Raise --epochs and --latents, or train on more pictures of fewer kinds of things.",
    "memorising": "Collect more pictures, or lower --latents and --hidden.",
}


class Trained(NamedTuple):
    """A model, one row per epoch (as of `training.fit`, and "held_out"), and what went wrong."""

    model: VAE
    history: History
    problems: tuple[Problem, ...]

    @property
    def best(self) -> float:
        """The ELBO of the held-out images, of the epoch whose weights the model has, in nats."""
        return max(row["held_out"] for row in self.history if row["eligible"])


def pose_first(model: VAE, strict: float = STRICT) -> Estimator:
    """The ELBO, its KL in closed form, where a KL weight below 1 makes u cheap and z expensive.

    With the weight b, the KL of u counts b times and that of z 1 + strict (1 - b) times. At b = 1
    it is the ELBO. With `strict` = -1 both KLs count b times, as in `analytic_kl`.
    """

    def estimate(particles: Particles, kl_weight: Weight = 1.0) -> Tensor:
        kl_z, kl_u = model.split(particles.kl)
        of_z = (1 + strict * (1 - kl_weight)) * kl_z.sum(-1)
        return bounds.elbo(particles.log_lik) - of_z - kl_weight * kl_u.sum(-1)

    return estimate


def new_model(
    warp: str,
    size: Shape,
    dim_z: int = DIM_Z,
    hidden: int = HIDDEN,
    seed: int = 0,
    likelihood: str = "bernoulli",
    noise: float | None = None,
    body: str = "mlp",
    turn: float | None = None,
    shift: float | None = None,
    scale: float | None = None,
    fixed: bool = False,
) -> VAE:
    """An untrained model for images of this size, on the device of `runtime.pick_device`.

    `size` is (height, width), or (3, height, width) in colour; one warp moves all channels.
    `likelihood` and `noise` are those of `pixels.make_pixels`. With the `body` "conv" the model has
    convolutions, for pictures of 64 pixels and more. `turn`, `shift`, `scale` and `fixed` say what
    poses you expect: see `expected.expect`.

    Raises:
        ValueError: an unknown warp, likelihood or body; noise that the likelihood cannot have;
            expected poses that the warp cannot have.
    """
    check_known("warp", warp, POSED)
    check_known("body", body, convolutions.BODIES)
    with seeded(seed):
        model = models.build(
            warp,
            size,
            dim_z=dim_z,
            dim_u=make_warp(warp, size[-2:]).n_params,
            hidden=(hidden, hidden),
            look="straight-mean",
            resample="logits",
            pixels=make_pixels(likelihood, noise),
            pose_std=POSE_STD,
        )
        if body == "conv":
            convolutions.convolve(model, hidden)
    if fixed or (turn, shift, scale) != (None, None, None):
        expected.expect(model, warp, turn, shift, scale, fixed)
    return model.to(pick_device())


def shape_of(images: Images) -> Shape:
    """Channels, height and width of images: the size of a model for them."""
    channels, height, width = images.pixels.shape[1:]
    return channels, height, width


def epochs_for(n: int) -> int:
    """The number of epochs for n images: many for few images, and the other way round."""
    return min(max(EPOCHS[0], VISITS // n), EPOCHS[1])


def train(
    images: Images,
    warp: str = "similarity",
    *,
    epochs: int | None = None,
    dim_z: int = DIM_Z,
    hidden: int = HIDDEN,
    rate: float = PEAK,
    strict: float = STRICT,
    seed: int = 0,
    folder: Path | None = None,
    **design: Any,
) -> Trained:
    """Train a model that infers the pose of each image.

    A tenth of the images is held out. The model gets the weights of the epoch with the best
    held-out ELBO, and training ends early if a quarter of the epochs go by without a better one.
    `strict` is that of `pose_first`. With a `folder` the state is saved there after each epoch, and
    a later call with the same arguments resumes from it. `design` are further options of
    `new_model`.

    Raises:
        ValueError: fewer than 20 images, an unknown warp or option, or a folder of another run.
        training.NonFiniteLossError: the loss became NaN; the message says what to change.
    """
    _enough(images)
    model = new_model(warp, shape_of(images), dim_z, hidden, seed, **design)
    if folder is not None:
        run = {"images": images.sha256(), "seed": seed, "latents": dim_z, "hidden": hidden}
        _same_run(folder / "run.json", {**run, "warp": warp, **design})
    seen, held = (
        part.to(pick_device()) for part in hold_out(images, max(2, round(HELD_OUT * len(images))))
    )
    models.start_at_mean(model, seen.x.mean(0))
    rank, size = shards.place()
    seen = shards.share(seen)
    epochs = epochs_for(size * len(seen)) if epochs is None else epochs
    watch = _Watch(model, held, epochs, folder and shards.checkpoint(folder / "best.safetensors"))
    try:
        with seeded(seed + SEEDS * rank):
            history = training.fit(
                shards.shared(model),
                data.Batches(seen, max(1, BATCH // size)),
                pose_first(model, strict),
                epochs=epochs,
                optimizer=functools.partial(training.adam_one_cycle, peak=rate),
                warm_up=watch.warm_up,
                checkpoint=folder and shards.checkpoint(folder / "checkpoint.pt"),
                after_epoch=watch,
            )
    except training.NonFiniteLossError as error:
        raise training.NonFiniteLossError(
            str(Problem("nan", str(error).rstrip("."), CHANGES["nan"]))
        ) from error
    model.load_state_dict(watch.best_weights())
    return Trained(model, history, problems(model, seen, held))


def _enough(images: Images) -> None:
    if len(images) < LEAST:
        raise ValueError(
            f"a model needs at least {LEAST} images to learn from, and preferably hundreds; "
            f"got {len(images)}"
        )


def _same_run(path: Path, run: dict[str, Any]) -> None:
    """Raise a ValueError if this folder holds another run; store the options if there is none.

    Its weights may fit into this one's model, where they mean something else.
    """
    text = json.dumps(run, sort_keys=True, default=str)
    before, now = json.loads(path.read_bytes() if path.exists() else text), json.loads(text)
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            raise ValueError(
                f"{path} belongs to another run: {name} was {before.get(name)}, and is "
                f"{now.get(name)} now. Choose another folder, or delete this one"
            )
    write_atomically(path, text.encode())


class _Watch:
    """After each epoch: the ELBO of held-out images, the best weights so far, the time left."""

    def __init__(self, model: VAE, held: Images, epochs: int, path: Path | None) -> None:
        self.model, self.held, self.epochs, self.path = model, held, epochs, path
        self.warm_up = epochs // 2  # no epoch of it is eligible: it trains for something else
        self.kept: dict[str, Tensor] | None = None

    def __call__(self, history: History) -> None:
        row = history[-1]
        row["held_out"] = shards.of_first(_elbo(self.model, self.held))
        row["eligible"] = row["epoch"] > self.warm_up
        values = [row["held_out"] if row["eligible"] else -math.inf for row in history]
        best = max(range(len(values)), key=values.__getitem__)
        if row["eligible"] and best == len(values) - 1:
            self._keep()
        row["stop"] = len(values) - 1 - best > max(5, PATIENCE * self.epochs) and row["eligible"]
        if row["epoch"] % training.print_every(self.epochs) == 0 or row["stop"]:
            left = (self.epochs - row["epoch"]) * row["seconds"]
            left_text = "stopped early" if row["stop"] else f"{_duration(left)} left"
            print(f"           held-out ELBO {row['held_out']:8.2f}, {left_text}", flush=True)

    def _keep(self) -> None:
        weights = {name: value.cpu().clone() for name, value in self.model.state_dict().items()}
        if self.path is None:
            self.kept = weights
        else:
            write_atomically(self.path, safetensors.torch.save(weights))

    def best_weights(self) -> dict[str, Tensor]:
        if self.path is not None:
            return safetensors.torch.load(self.path.read_bytes())
        assert self.kept is not None, "the last epoch is eligible"
        return self.kept


def _elbo(model: VAE, images: Images) -> float:
    with seeded(0):  # the same draws after every epoch
        return -evaluation.elbo_terms(model, images, draws=2).negative_elbo.mean().item()


@torch.no_grad()
def problems(model: VAE, seen: Images, held: Images) -> tuple[Problem, ...]:
    """What went wrong in training, as far as it can be seen in a model.

    `seen` are the images that the model was trained on, and `held` those held out.
    """
    found: dict[str, str] = {}
    some = spread(seen, WHOLE_ROWS)
    with seeded(0):
        terms = evaluation.elbo_terms(model, held, draws=2)
    held_out, base = -terms.negative_elbo.mean().item(), _mean_image_bound(model, seen, held)
    if held_out < base + 1:
        found["not learning"] = (
            f"new pictures are not described better ({held_out:.1f} nats) than by the mean of all "
            f"pictures ({base:.1f})"
        )
    else:
        if terms.kl_u.mean() < NAMES["informative_kl"]:
            found["dead warp"] = f"the KL of u is {terms.kl_u.mean():.2f} nats: no pose is inferred"
        if terms.kl_z.mean() < NAMES["informative_kl"]:
            found["collapse"] = (
                f"the KL of z is {terms.kl_z.mean():.2f} nats: all canonical images are the same"
            )
        known = _elbo(model, some)
        if known - held_out > MEMORISED * (known - base):
            found["memorising"] = (
                f"known pictures are described better ({known:.1f} nats) than new ones "
                f"({held_out:.1f}), whose poses will be less exact"
            )
    x = some.x
    latents = model.posterior(x).mean
    folds, side = _grids(model, latents)
    if folds > 0.01:
        found["folding"] = f"the grids of {folds:.0%} of the pictures fold or mirror them"
    if not 0.5 <= side <= 2:
        found["shrinking"] = f"things in canonical images are {side:.2g} times as large as in yours"
    explained = 1 - ((x - model.decoder(latents).mean) ** 2).mean() / x.var(0).mean()
    if "not learning" not in found and explained < 0.3:
        found["blurry"] = (
            f"reconstructions explain {explained:.0%} of what differs between pictures"
        )
    return tuple(Problem(name, seen, CHANGES[name]) for name, seen in found.items())


def _mean_image_bound(model: VAE, seen: Images, held: Images) -> float:
    """The mean log-likelihood of images under the mean of others."""
    same = best_constant(model.decoder.canonical.pixels, seen.x)
    each = replace(same, logits=same.logits.expand_as(held.x))
    return float(each.log_prob(held.x).mean())


def _grids(model: VAE, latents: Tensor) -> tuple[float, float]:
    """The share of grids that fold, and the side of a canonical thing beside that in the image.

    A cell of the grid covers an area of the canonical image: a negative one where the grid folds,
    and a large one where the canonical thing is large.
    """
    grid = model.grid(latents)
    across = grid[:, :-1, 1:] - grid[:, :-1, :-1]
    down = grid[:, 1:, :-1] - grid[:, :-1, :-1]
    area = across[..., 0] * down[..., 1] - across[..., 1] * down[..., 0]
    height, width = model.size
    side = (area.abs().mean() * height * width / 4).sqrt()
    return (area <= 0).flatten(1).any(1).float().mean().item(), side.item()


def seconds_for(
    images: Images, warp: str = "similarity", epochs: int | None = None, **design: Any
) -> float:
    """About how long `train` will take here with these options, from a few batches."""
    few = images[: 5 * BATCH]
    _enough(images)
    model = new_model(warp, shape_of(images), **design)
    with seeded(0):
        batches = data.Batches(few.to(pick_device()), BATCH)
        with contextlib.redirect_stdout(io.StringIO()):
            timed = training.fit(
                model, batches, pose_first(model), epochs=2, optimizer=training.adam_one_cycle
            )
    n = round((1 - HELD_OUT) * len(images))
    return timed[-1]["seconds"] / len(few) * n * (epochs_for(n) if epochs is None else epochs)


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
