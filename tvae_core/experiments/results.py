"""The weights and records that ship with the package: the book's models and its measurements."""

from __future__ import annotations

import functools
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

from tvae_core import models
from tvae_core.checks import check_known
from tvae_core.experiments import archive, frames, study
from tvae_core.experiments.configs import RunName
from tvae_core.experiments.records import RunRecord, load_record
from tvae_core.models import VAE
from tvae_core.runtime import NAMES, pick_device

MODEL_OPTIONS = ("pose_std", "resample", "padding", "look", "bounded")


SHIPPED = Path(str(resources.files("tvae_core"))) / "shipped"
FOLDER = SHIPPED / "runs"  # weights and records of seed 0
# The records of all other seeds and test sets, in a checkout of the repository.
ARCHIVE = SHIPPED.parents[1] / "results"
SEEDS = SHIPPED / "seeds.json"  # results of every seed, summarised
VALIDATION = SHIPPED / "validation.json"  # the same for runs on held-out training images
MEASURED = SHIPPED / "measured"  # records of `tvae_core.measure`


INFORMATIVE: float = NAMES["informative_kl"]


class Run(NamedTuple):
    """A trained model and its record."""

    model: VAE
    record: RunRecord


def load_pretrained(name: str) -> Run:
    """The book's model of this name, and its record (seed 0, profile "paper").

    The weights are stored in float16: losses computed with them differ from the record in the
    second decimal at most.

    Raises:
        ValueError: an unknown name (the known ones are listed).
        OSError: a damaged file.
    """
    weights = _verified("pretrained model", name, ".safetensors")
    record = record_of(name)
    return Run(load_weights(weights, record.config).to(pick_device()), record)


def record_of(name: str) -> RunRecord:
    """The record of seed 0 behind the book's numbers for a run.

    Raises:
        ValueError: an unknown name (the known ones are listed).
        OSError: a damaged file.
    """
    return load_record(_verified("record", name, ".json"))


def recorded() -> list[str]:
    """The names of the runs whose records ship with the package."""
    return _named(".json")


def shipped() -> list[str]:
    """The names of the runs whose weights ship with the package."""
    return _named(".safetensors")


def _named(suffix: str) -> list[str]:
    return [Path(file).stem for file in archive.read_sums(FOLDER) if file.endswith(suffix)]


@functools.cache
def all_records() -> list[RunRecord]:
    """Every record of the book: the shipped ones, and those in the repository's results/.

    Raises:
        FileNotFoundError: the package is not in a checkout; the message says what to do.
        OSError: a damaged file.
    """
    if not (ARCHIVE / archive.SUMS).exists():
        raise FileNotFoundError(
            f"there are no records in {ARCHIVE}. Those of all seeds are only in the repository: "
            "clone it, and install tvae_core from there with: pip install -e ."
        )
    return [*map(record_of, recorded()), *archive.read(ARCHIVE)]


def frame(table: str = "runs") -> Any:
    """All records of the book as a pandas DataFrame.

    "runs" has one row per record: losses in nats with their standard errors, settings, machine,
    seconds. "curves" has one row per epoch, "nll_at" one per number of importance samples,
    "per_image" one per test image, and "per_latent" one per latent, z first. In all tables, the
    columns run, profile, seed and images (the number of test images) identify a record. For
    example, the mean NLL over seeds:

        runs = results.frame()
        runs[runs.images == 2000].groupby("run").nll.agg(["mean", "std"])

    Raises:
        ValueError: an unknown table (the known ones are listed).
        FileNotFoundError: as `all_records`.
    """
    return frames.frame(all_records(), table)


def over_seeds(name: str, field: str = "nll") -> list[float]:
    """One value of a field per seed of a run, seed 0 first, all on the same test images.

    "recon" and "nll" are means over the images. "active" is the number of latents whose posterior
    mean has a variance over the images above `evaluation.ACTIVE`, and "informative" the number of
    latents whose mean KL is above `INFORMATIVE` nats. "seconds" are those of the fastest epoch, on
    whatever machine the seed was trained.

    Raises:
        ValueError: an unknown name or field (the known ones are listed).
    """
    summary = json.loads(SEEDS.read_bytes())
    check_known("run", name, summary)
    check_known("field", field, summary[name])
    values: list[float] = summary[name][field]
    return values


class Gap(NamedTuple):
    """The difference between two runs' means over seeds, with its standard error.

    `margin` is half the width of the 95 % confidence interval.
    """

    mean: float
    error: float
    margin: float

    @property
    def beyond_luck(self) -> bool:
        """Whether the difference is more than the luck of training would plausibly explain."""
        return abs(self.mean) > self.margin


def gap_over_seeds(a: str, b: str, field: str = "nll") -> Gap:
    """Mean of a field over the seeds of run `a`, minus that of run `b`, with its error over seeds.

    Both means are over the same test images, so the error only reflects the luck of training. The
    interval is that of Welch's t-test, which is wider with few seeds because they determine their
    own variance poorly.

    Raises:
        ValueError: an unknown name (the known ones are listed), or a run with under three seeds.
    """
    from scipy import stats  # imported here because it takes half a second

    runs = [over_seeds(name, field) for name in (a, b)]
    for name, values in zip((a, b), runs, strict=True):
        if len(values) < 3:
            raise ValueError(
                f"{name!r} has {len(values)} seeds; at least three seeds are needed to judge luck"
            )
    mean = statistics.mean(runs[0]) - statistics.mean(runs[1])
    error = math.sqrt(sum(statistics.variance(values) / len(values) for values in runs))
    interval = stats.ttest_ind(*runs, equal_var=False).confidence_interval(0.95)
    return Gap(mean, error, float(interval.high - interval.low) / 2)


class Validation(NamedTuple):
    """The results of a run on held-out training images.

    `gap` is the mean NLL minus that of the run `base` on the same images, and its standard error
    over seeds and images; None for `base` itself, and if `base` has no record.
    """

    nll: list[float]  # of each seed, seed 0 first
    base: str
    gap: list[float] | None
    epochs: int
    samples: int  # importance samples per image
    images: int


def validated(name: str) -> Validation:
    """The results of a recipe's run on held-out training images.

    Raises:
        ValueError: an unknown name (the known ones are listed).
    """
    summary = json.loads(VALIDATION.read_bytes())
    check_known("run on held-out images", name, summary)
    return Validation(**summary[name])


def measured(kind: str, model: str) -> dict[str, Any]:
    """The record of `python -m tvae_core.measure KIND --models MODEL` for a model of the book.

    `measure.columns` joins the parts of such a record.

    Raises:
        ValueError: this kind was not measured on this model (the measurements are listed).
    """
    name = f"{kind}-{model}"
    check_known("measurement", name, sorted(path.stem for path in MEASURED.glob("*.json")))
    record: dict[str, Any] = json.loads((MEASURED / f"{name}.json").read_bytes())
    return record


def _verified(kind: str, name: str, suffix: str) -> Path:
    """The path of a shipped file, after checking its SHA-256."""
    check_known(kind, name, _named(suffix))
    path = FOLDER / f"{name}{suffix}"
    if hashlib.sha256(path.read_bytes()).hexdigest() != archive.read_sums(FOLDER)[path.name]:
        raise OSError(f"{path} is damaged; install tvae_core again")
    return path


def report(*names: str) -> str:
    """A table of the book's records for some of `RUNS`, with the study's numbers.

    For seed 0: means over test images +- the standard error over these images, the NLL with the
    record's number of importance samples. Then the standard deviation of the NLL over seeds, and
    the number of seeds.
    """
    width = max(20, *map(len, names))
    lines = [
        f"{'run':{width}} {'recon':>14} {'KL(z)':>6} {'KL(u)':>6} {'NLL':>15} "
        f"{'sd, seeds':>10} {'study: recon, NLL':>18}"
    ]
    for name in names:
        record = record_of(name)
        printed_nll = study.nll_of(name)
        printed = "-" if printed_nll is None else f"{printed_nll:.2f}"
        decoder, objective, variant = RunName.of(name)
        if (objective, variant) == ("vae", ""):
            printed = f"{study.PRINTED[decoder].recon:.2f}  {printed}"
        values = over_seeds(name)
        spread = f"{statistics.stdev(values):.2f} ({len(values)})" if len(values) > 1 else "-"
        lines.append(
            f"{name:{width}} {record.recon.mean:7.2f} +- {record.recon.se:.2f} "
            f"{record.kl_z.mean:6.2f} {record.kl_u.mean:6.2f} {record.nll.mean:8.2f} "
            f"+- {record.nll.se:.2f} {spread:>10} {printed:>18}"
        )
    if any("look" in record_of(name).config for name in names):
        lines.append(
            "KL(z) of a model that looks again is a mean over drawn poses; KL(u) is exact."
        )
    return "\n".join(lines)


def build(config: Mapping[str, Any]) -> VAE:
    """The untrained model of a record's configuration."""
    options = {name: config[name] for name in MODEL_OPTIONS if name in config}
    if "encoder_width" in config:
        options["encoder_hidden"] = 2 * (config["encoder_width"],)
    return models.build(config["model"], tuple(config["size"]), **options)


def load_weights(path: Path, config: Mapping[str, Any]) -> VAE:
    """The trained model of a record's configuration, on the CPU.

    Raises:
        ValueError: missing or damaged weights, or those of another model.
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
