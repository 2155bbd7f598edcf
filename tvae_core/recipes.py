"""What each run of the book is: its model, its objective and how it is trained."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tvae_core import bounds, estimators, training
from tvae_core.estimators import Estimator

_iwae = estimators.reparameterized(bounds.iwae)
_miwae4 = estimators.reparameterized(functools.partial(bounds.miwae, m=4))
# The first three are the study's objectives: "vae" has its KL in closed form, "multi" and "iwae"
# estimate it from their draws. Then the gradients of the ELBO and of the IWAE bound, and other
# objectives. A bound's option is part of its name, as a record tells the name alone.
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
OPTIMIZERS: dict[str, training.Recipe] = {
    "adadelta": training.adadelta,
    "adam": training.adam,
    "adam-one-cycle": training.adam_one_cycle,
}
DECODERS = ("plain", "affine", "tps")
# What may train an objective in place of its own gradient: a less noisy estimate of the same one.
GRADIENTS = {"vae": "stl", "multi": "stl", "iwae": "dreg"}


@dataclass(frozen=True)
class Config:
    """One model and how it is trained.

    What is None is as in the study, and stays out of `settings`: a new option leaves the keys of
    old runs as they are.
    """

    model: str
    objective: str  # of ESTIMATORS
    k: int = 1
    binarization: str = "none"
    batch_size: int = 128
    optimizer: str = "adadelta"
    peak: float | None = None  # of Adam's learning rate
    estimator: str | None = None  # of ESTIMATORS; None is the objective's own
    warm_up: int | None = None  # epochs over which the price of the latents rises to its full
    start: str | None = None  # "mean": the decoder's bias starts at the training images' mean
    resample: str | None = None  # the next three are options of WarpedDecoder
    padding: str | None = None
    pose_std: float | None = None
    stretch: int | None = None  # times the profile's number of epochs

    def __post_init__(self) -> None:
        other = GRADIENTS.get(self.objective)
        if self.estimator not in (None, other):
            raise ValueError(
                f"{self.estimator!r} is no estimator of the gradient of {self.objective!r}: "
                f"want one of {(None, other) if other else (None,)}"
            )

    @property
    def recipe(self) -> training.Recipe:
        """The optimizer and its schedule."""
        optimizer = OPTIMIZERS[self.optimizer]
        if self.peak is None:
            return optimizer
        return functools.partial(optimizer, peak=self.peak)  # type: ignore[call-arg]

    @property
    def gradient(self) -> Estimator:
        """The estimator that trains this model."""
        return ESTIMATORS[self.estimator or self.objective]

    def epochs(self, by_k: Mapping[int, int]) -> int:
        """How long it trains, where a profile grants so many epochs to k draws."""
        return by_k[self.k] * (self.stretch or 1)

    def settings(self) -> dict[str, Any]:
        """The options that are set, by name."""
        options = dataclasses.asdict(self)
        return {name: value for name, value in options.items() if value is not None}


def _study() -> dict[str, Config]:
    """The study's nine models on its own recipe, and one draw on binary pixels to compare with."""
    runs = {f"{model}-vae": Config(model, "vae") for model in DECODERS}
    for model in DECODERS:
        runs[f"{model}-vae-binarized"] = Config(model, "vae", 1, "dynamic", 100)
        for objective in ("multi", "iwae"):
            runs[f"{model}-{objective}5"] = Config(model, objective, 5, "dynamic", 100)
    return runs


def _draws() -> dict[str, Config]:
    """The plain model with 1 and 50 draws, for chapter 6; with 1 the two objectives are one."""
    return {
        f"plain-{objective}{k}": Config("plain", objective, k, "dynamic", 100)
        for objective, k in (("multi", 1), ("multi", 50), ("iwae", 50))
    }


# Chosen on held-out training images; the page "ablations" shows what each choice is worth.
MODERN = {
    "binarization": "dynamic",
    "batch_size": 100,
    "optimizer": "adam-one-cycle",
    "peak": 3e-3,
    "warm_up": 5,
    "start": "mean",
}
MODERN_WARP = {"resample": "logits"}
LONG = 4  # times the epochs


def _modern_run(model: str, objective: str, k: int, **changes: Any) -> Config:
    options = {
        **MODERN,
        **(MODERN_WARP if model != "plain" else {}),
        "estimator": GRADIENTS.get(objective),
        **changes,
    }
    return Config(model, objective, k, **options)


def _modern(suffix: str = "modern", **changes: Any) -> dict[str, Config]:
    """The study's nine models on a better recipe, all on binary pixels."""
    kinds = (("vae", 1), ("multi", 5), ("iwae", 5))
    return {
        f"{model}-{objective}{k if k > 1 else ''}-{suffix}": _modern_run(
            model, objective, k, **changes
        )
        for objective, k in kinds
        for model in DECODERS
    }


def _ablations() -> dict[str, Config]:
    """The modern IWAE, and one choice taken back at a time."""
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
            runs[f"{model}-iwae5-{what}"] = _modern_run(model, "iwae", 5, **change)
    return runs


def _gradients() -> dict[str, Config]:
    """Six ways to spend 16 draws an image: 4 groups of 4, one of 16, or 16 ELBOs."""
    ways = (
        ("iwae", None),
        ("iwae", "dreg"),
        ("miwae-4", None),
        ("ciwae-0.5", None),
        ("piwae-4", None),
        ("multi", "stl"),
    )
    return {
        f"{model}-{objective.partition('-')[0]}16-{estimator or 'reparameterized'}": _modern_run(
            model, objective, 16, estimator=estimator
        )
        for model in ("plain", "affine")
        for objective, estimator in ways
    }


# What `python -m tvae_core.reproduce` knows as a recipe: a name for several runs.
RECIPES: dict[str, dict[str, Config]] = {
    "study": _study(),
    "draws": _draws(),
    "modern": _modern(),
    "long": _modern("long", stretch=LONG),
    "ablation": _ablations(),
    "gradients": _gradients(),
}
# The recipes that train and test on training images (profile validation).
HELD_OUT = ("ablation", "gradients")
RUNS = {name: config for runs in RECIPES.values() for name, config in runs.items()}
