"""The runs of the book: the model, objective, training and name of each; and how large a run is."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from tvae_core import bounds, estimators, training
from tvae_core.estimators import Estimator
from tvae_core.runtime import NAMES

_iwae = estimators.reparameterized(bounds.iwae)
_miwae4 = estimators.reparameterized(functools.partial(bounds.miwae, m=4))
# First the study's objectives: "vae" has its KL in closed form, "multi" and "iwae" estimate it from
# their draws. Then other gradients of the ELBO and of the IWAE bound, then other objectives. A
# bound's option is part of its name, because a record stores only the name.
ESTIMATORS: dict[str, Estimator] = {
    "vae": estimators.analytic_kl,
    "multi": estimators.reparameterized(bounds.elbo),
    "iwae": _iwae,
    "stl": estimators.stl,
    "dreg": estimators.dreg,
    "miwae-4": _miwae4,
    "piwae-4": estimators.paired(encoder=_miwae4, decoder=_iwae),
    "ciwae-0.5": estimators.reparameterized(functools.partial(bounds.ciwae, beta=0.5)),
}
OPTIMIZERS: dict[str, training.MakeOptimizer] = {
    "adadelta": training.adadelta,
    "adam": training.adam,
    "adam-one-cycle": training.adam_one_cycle,
}
DECODERS = tuple(NAMES["decoders"])
# Models with other encoders: the decoder, and the options of `models.build` for the encoder.
ENCODERS: dict[str, tuple[str, dict[str, Any]]] = {
    f"{decoder}-{look}": (decoder, {"look": look})
    for look in ("straight", "straight-mean", "pose")
    for decoder in ("affine", "tps")
} | {
    "plain-wide": ("plain", {"encoder_width": 512}),
    "affine-unbounded": ("affine", {"bounded": False}),
}
# A less noisy estimator of the same gradient, which may be used instead of the objective's own.
GRADIENTS = {"vae": "stl", "multi": "stl", "iwae": "dreg"}


class RunName(NamedTuple):
    """A run's name, such as "affine-iwae5-modern": decoder, objective with its k, and variant.

    A decoder with another encoder is named as in `ENCODERS`, such as "affine-straight". The VAE's
    single draw is not written out, as in "plain-vae". With the study's recipe the variant is empty,
    except that "vae-binarized" is the VAE on binary pixels.
    """

    decoder: str
    objective: str
    variant: str = ""

    @classmethod
    def of(cls, name: str) -> RunName:
        """Split a name into its parts."""
        others = (model for model in ENCODERS if name.startswith(f"{model}-"))
        model = max(others, key=len, default=name.partition("-")[0])
        objective, _, variant = name[len(model) + 1 :].partition("-")
        return cls(model, objective, variant)

    def __str__(self) -> str:
        return "-".join(filter(None, self))


def names_of(*objectives: str, decoders: Iterable[str] = DECODERS, variant: str = "") -> list[str]:
    """The names of the runs of each objective with each decoder, grouped by objective."""
    return [str(RunName(d, o, variant)) for o in objectives for d in decoders]


@dataclass(frozen=True)
class Config:
    """One model and how it is trained.

    An option that is None is as in the study and does not appear in `settings`, so that adding an
    option leaves the keys of old runs unchanged.
    """

    model: str
    objective: str  # a key of ESTIMATORS
    k: int = 1
    binarization: str = "none"
    batch_size: int = 128
    optimizer: str = "adadelta"
    peak: float | None = None  # highest learning rate of Adam
    estimator: str | None = None  # a key of ESTIMATORS; None is the objective's own
    warm_up: int | None = None  # epochs over which the KL weight rises to 1
    start: str | None = None  # "mean": the decoder's bias starts at the training images' mean
    resample: str | None = None  # the next three are options of WarpedDecoder
    padding: str | None = None
    pose_std: float | None = None
    look: str | None = None  # what z is read from: an option of the encoder, as the next
    encoder_width: int | None = None  # of both hidden layers
    bounded: bool | None = None  # whether the mean of u passes through a tanh
    stretch: int | None = None  # multiplies the profile's number of epochs

    def __post_init__(self) -> None:
        other = GRADIENTS.get(self.objective)
        if self.estimator not in (None, other):
            raise ValueError(
                f"{self.estimator!r} does not estimate the gradient of {self.objective!r}: "
                f"use one of {(None, other) if other else (None,)}"
            )

    @property
    def make_optimizer(self) -> training.MakeOptimizer:
        """The function that makes the optimizer and its schedule."""
        optimizer = OPTIMIZERS[self.optimizer]
        if self.peak is None:
            return optimizer
        return functools.partial(optimizer, peak=self.peak)  # type: ignore[call-arg]

    @property
    def gradient(self) -> Estimator:
        """The estimator that trains this model."""
        return ESTIMATORS[self.estimator or self.objective]

    def epochs(self, by_k: Mapping[int, int]) -> int:
        """The number of epochs, under a profile with these numbers of epochs by k."""
        return by_k[self.k] * (self.stretch or 1)

    def settings(self) -> dict[str, Any]:
        """The options that are not None, by name."""
        options = dataclasses.asdict(self)
        return {name: value for name, value in options.items() if value is not None}


def _study() -> dict[str, Config]:
    """The study's nine models with its own recipe, and the VAE on binary pixels for comparison."""
    runs = {}
    for model in DECODERS:
        runs[str(RunName(model, "vae"))] = Config(model, "vae")
    for model in DECODERS:
        runs[str(RunName(model, "vae", "binarized"))] = Config(model, "vae", 1, "dynamic", 100)
        for objective in ("multi", "iwae"):
            runs[str(RunName(model, f"{objective}5"))] = Config(model, objective, 5, "dynamic", 100)
    return runs


def _draws() -> dict[str, Config]:
    """The plain model with 1 and 50 draws, for chapter 6; with 1 draw both objectives agree."""
    return {
        str(RunName("plain", f"{objective}{k}")): Config("plain", objective, k, "dynamic", 100)
        for objective, k in (("multi", 1), ("multi", 50), ("iwae", 50))
    }


# Chosen on held-out training images; the page "ablations" shows the effect of each choice.
MODERN = {
    "binarization": "dynamic",
    "batch_size": 100,
    "optimizer": "adam-one-cycle",
    "peak": 3e-3,
    "warm_up": 5,
    "start": "mean",
}
MODERN_WARP = {"resample": "logits"}
LONG = 4  # times as many epochs


def _modern_run(model: str, objective: str, k: int, **changes: Any) -> Config:
    options = {
        **MODERN,
        **(MODERN_WARP if model != "plain" else {}),
        "estimator": GRADIENTS.get(objective),
        **changes,
    }
    return Config(model, objective, k, **options)


def _looks() -> dict[str, Config]:
    """The modern recipe with other encoders, above all one that sees the straightened image."""
    five = ("iwae", 5)
    straight = ("affine-straight", "tps-straight")
    runs = {}
    for model, (decoder, options) in ENCODERS.items():
        for objective, k in (("vae", 1), ("multi", 5), five) if model in straight else (five,):
            name = f"{objective}{k if k > 1 else ''}"
            config = _modern_run(decoder, objective, k, **options)
            runs[str(RunName(model, name, "modern"))] = config
        if model in (*straight, "plain-wide", "affine-unbounded"):
            long = _modern_run(decoder, *five, **options, stretch=LONG)
            runs[str(RunName(model, "iwae5", "long"))] = long
    return runs


def _modern(suffix: str = "modern", **changes: Any) -> dict[str, Config]:
    """The study's nine models with a better recipe, all on binary pixels."""
    kinds = (("vae", 1), ("multi", 5), ("iwae", 5))
    return {
        str(RunName(model, f"{objective}{k if k > 1 else ''}", suffix)): _modern_run(
            model, objective, k, **changes
        )
        for objective, k in kinds
        for model in DECODERS
    }


def _ablations() -> dict[str, Config]:
    """The modern IWAE, and variants that each undo one of its choices."""
    changes: dict[str, dict[str, Any]] = {
        "adadelta": {"optimizer": "adadelta", "peak": None},
        "constant-rate": {"optimizer": "adam", "peak": 1e-3},
        "lower-peak": {"peak": 1e-3},
        "no-warm-up": {"warm_up": None},
        "zero-start": {"start": None},
        "reparameterized": {"estimator": None},
    }
    warped: dict[str, dict[str, Any]] = {
        "probs": {"resample": None},
        "border": {"padding": "border"},
        "small-pose": {"pose_std": 0.01},
        "large-pose": {"pose_std": 0.3},
    }
    runs = {}
    for model, choices in (("plain", changes), ("affine", {**changes, **warped})):
        for what, change in {"modern": {}, **choices}.items():
            runs[str(RunName(model, "iwae5", what))] = _modern_run(model, "iwae", 5, **change)
    return runs


def _gradients() -> dict[str, Config]:
    """Six ways to spend 16 draws per image: 4 groups of 4, one group of 16, or 16 ELBOs."""
    ways = (
        ("iwae", None),
        ("iwae", "dreg"),
        ("miwae-4", None),
        ("ciwae-0.5", None),
        ("piwae-4", None),
        ("multi", "stl"),
    )
    return {
        str(
            RunName(model, f"{objective.partition('-')[0]}16", estimator or "reparameterized")
        ): _modern_run(model, objective, 16, estimator=estimator)
        for model in ("plain", "affine")
        for objective, estimator in ways
    }


# Groups of runs, by their name in `python -m tvae_core.reproduce --recipe`.
RECIPES: dict[str, dict[str, Config]] = {
    "study": _study(),
    "draws": _draws(),
    "modern": _modern(),
    "long": _modern("long", stretch=LONG),
    "looks": _looks(),
    "ablation": _ablations(),
    "gradients": _gradients(),
}
# Recipes that train and test on training images only (the profile "validation").
HELD_OUT = ("ablation", "gradients")
RUNS = {name: config for runs in RECIPES.values() for name, config in runs.items()}


@dataclass(frozen=True)
class Profile:
    """The size of a run: how much data, how many epochs, how precise an evaluation."""

    name: str
    dataset: str
    n_train: int
    epochs: dict[int, int]  # by k, the number of draws per image
    n_test: int
    nll_samples: int
    held_out: int = 0  # training images to test on, instead of the test set


PROFILES = {
    "smoke": Profile("smoke", "mini", 1_000, {1: 2, 5: 1, 16: 1, 50: 1}, 50, 100),
    "reader": Profile("reader", "mnist", 60_000, {1: 10, 5: 5, 16: 3, 50: 1}, 200, 5_000),
    "paper": Profile("paper", "mnist", 60_000, {1: 50, 5: 50, 16: 50, 50: 50}, 10_000, 5_000),
    # For comparing and choosing recipes without looking at the test set.
    "validation": Profile(
        "validation", "mnist", 55_000, {1: 15, 5: 15, 16: 15, 50: 15}, 1_000, 1_000, held_out=5_000
    ),
}
# The profile "paper" on a machine without a GPU.
PAPER_ON_CPU = dataclasses.replace(PROFILES["paper"], n_test=2_000)
