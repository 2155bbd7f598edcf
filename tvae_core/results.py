"""The weights and records that ship with the package: what the book shows, and has measured."""

from __future__ import annotations

import hashlib
import json
import math
import statistics
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
import safetensors.torch

from tvae_core import models, study
from tvae_core.models import VAE
from tvae_core.records import RunRecord, load_record
from tvae_core.runtime import check_known, pick_device

WARPED_OPTIONS = ("pose_std", "resample", "padding")


PACKAGE = Path(str(resources.files("tvae_core")))
FOLDER = PACKAGE / "pretrained"
SEEDS = FOLDER / "seeds.json"
VALIDATION = FOLDER / "validation.json"
MEASURED = PACKAGE / "measured"  # records of `tvae_core.measure`


class Run(NamedTuple):
    """A trained model and its record."""

    model: VAE
    record: RunRecord


def load_pretrained(name: str) -> Run:
    """The model that the book shows under this name, and its record (seed 0, paper profile).

    The weights are kept in float16: what they give differs from the record in the second decimal
    at the most.

    Raises:
        ValueError: an unknown name (the known are listed).
        OSError: a damaged file.
    """
    record = record_of(name)
    weights = _verified("pretrained model", name, ".safetensors")
    return Run(load_weights(weights, record.config).to(pick_device()), record)


def record_of(name: str) -> RunRecord:
    """The record behind the book's numbers for a run of seed 0.

    Raises:
        ValueError: an unknown name (the known are listed).
        OSError: a damaged file.
    """
    return load_record(_verified("record", name, ".json"))


def recorded() -> list[str]:
    """The runs that the package has a record of."""
    return _named(".json")


def shipped() -> list[str]:
    """Those whose weights it holds, too."""
    return _named(".safetensors")


def _named(suffix: str) -> list[str]:
    return [Path(file).stem for file in _sums() if file.endswith(suffix)]


def over_seeds(name: str, field: str = "nll") -> list[float]:
    """Mean "recon" or "nll" of each seed of a run, seed 0 first, all on the same test images.

    Or the number of latents in use, by either of two counts: "active" are those whose posterior
    mean has a variance over these images above `evaluation.ACTIVE`, "informative" those whose KL, a
    mean over these images, is above 0.1 nats.

    Raises:
        ValueError: an unknown name (the known are listed).
    """
    summary = json.loads(SEEDS.read_text())
    check_known("run", name, summary)
    values: list[float] = summary[name][field]
    return values


class Gap(NamedTuple):
    """How far two runs lie apart: a difference of means over seeds, and its standard error.

    `margin` is half the width of its 95 % confidence interval.
    """

    mean: float
    error: float
    margin: float

    @property
    def beyond_luck(self) -> bool:
        """Whether the luck of training is an unlikely reason for it."""
        return abs(self.mean) > self.margin


def gap_over_seeds(a: str, b: str, field: str = "nll") -> Gap:
    """Mean of a field over seeds, of run `a` less of run `b`, and its standard error over seeds.

    Both means are over the same test images, so this error is the luck of training alone. The
    interval is that of Welch's t-test: it is wider where there are few seeds, as these tell their
    own scatter only roughly.

    Raises:
        ValueError: an unknown name (the known are listed), or a run with fewer than three seeds.
    """
    from scipy import stats  # here, as it takes half a second that other callers need not wait

    runs = [over_seeds(name, field) for name in (a, b)]
    for name, values in zip((a, b), runs, strict=True):
        if len(values) < 3:
            raise ValueError(
                f"{name!r} has {len(values)} of the three seeds that luck takes to tell"
            )
    mean = statistics.mean(runs[0]) - statistics.mean(runs[1])
    error = math.sqrt(sum(statistics.variance(values) / len(values) for values in runs))
    interval = stats.ttest_ind(*runs, equal_var=False).confidence_interval(0.95)
    return Gap(mean, error, float(interval.high - interval.low) / 2)


class Validation(NamedTuple):
    """A run on held-out training images: what came out, over seeds.

    `gap` is the mean NLL less that of the run `base` on the same images, and its standard error
    over seeds and images; None for `base` itself, and where that has no record.
    """

    nll: list[float]  # of each seed, seed 0 first
    base: str
    gap: list[float] | None
    epochs: int
    samples: int  # importance samples an image
    images: int


def validated(name: str) -> Validation:
    """What a run of the recipes on held-out training images has given.

    Raises:
        ValueError: an unknown name (the known are listed).
    """
    summary = json.loads(VALIDATION.read_text())
    check_known("run on held-out images", name, summary)
    return Validation(**summary[name])


def measured(kind: str, model: str) -> dict[str, Any]:
    """What `python -m tvae_core.measure KIND --models MODEL` has found for a model of the book.

    `measure.columns` puts the parts of such a record together.

    Raises:
        ValueError: nothing of this kind has been measured on this model (what has is listed).
    """
    name = f"{kind}-{model}"
    check_known("measurement", name, sorted(path.stem for path in MEASURED.glob("*.json")))
    record: dict[str, Any] = json.loads((MEASURED / f"{name}.json").read_text())
    return record


def _verified(kind: str, name: str, suffix: str) -> Path:
    """A file of the package, after a look at its SHA-256."""
    check_known(kind, name, _named(suffix))
    path = FOLDER / f"{name}{suffix}"
    if hashlib.sha256(path.read_bytes()).hexdigest() != _sums()[path.name]:
        raise OSError(f"{path} is damaged; install tvae_core again")
    return path


def _sums() -> dict[str, str]:
    """SHA-256 of each file of weights or records."""
    lines = (FOLDER / "SHA256SUMS").read_text().splitlines()
    return {file: digest for digest, file in (line.split() for line in lines)}


def report(*names: str) -> str:
    """A table of the book's records for some of `RUNS`, with the study's numbers beside them.

    Seed 0: means over test images +- the standard error over these images; NLL from the record's
    number of importance samples. Then the standard deviation of the NLL over seeds, with their
    number.
    """
    lines = [
        f"{'run':20} {'recon':>14} {'KL(z)':>6} {'KL(u)':>6} {'NLL':>15} {'sd, seeds':>10} "
        f"{'study: recon, NLL':>18}"
    ]
    for name in names:
        record = record_of(name)
        printed_nll = study.nll_of(name)
        printed = "-" if printed_nll is None else f"{printed_nll:.2f}"
        if name.endswith("-vae"):
            printed = f"{study.PRINTED[record.config['model']].recon:.2f}  {printed}"
        values = over_seeds(name)
        spread = f"{statistics.stdev(values):.2f} ({len(values)})" if len(values) > 1 else "-"
        lines.append(
            f"{name:20} {record.recon[0]:7.2f} +- {record.recon[1]:.2f} {record.kl_z[0]:6.2f} "
            f"{record.kl_u[0]:6.2f} {record.nll[0]:8.2f} +- {record.nll[1]:.2f} {spread:>10} "
            f"{printed:>18}"
        )
    return "\n".join(lines)


def build(config: Mapping[str, Any]) -> VAE:
    """The untrained model of a record's configuration."""
    warped = {name: config[name] for name in WARPED_OPTIONS if name in config}
    return models.build(config["model"], tuple(config["size"]), **warped)


def load_weights(path: Path, config: Mapping[str, Any]) -> VAE:
    """The trained model of a record's configuration, on the CPU.

    Raises:
        ValueError: missing or damaged weights, or weights of another model.
    """
    model = build(config)
    try:
        state = safetensors.torch.load(path.read_bytes())
        model.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    except (FileNotFoundError, safetensors.SafetensorError, RuntimeError) as error:
        raise ValueError(
            f"the weights {path} are missing, damaged or another model's; delete the folder "
            f"{path.parent} and run again"
        ) from error
    return model.eval()
