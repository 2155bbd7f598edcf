"""What all tables share: the run records by seed, numbers as text, and what a table consists of."""

import functools
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from tvae_core.evaluation import Estimate, mean_se
from tvae_core.experiments import results
from tvae_core.experiments.configs import RUNS
from tvae_core.experiments.records import RunRecord
from tvae_core.experiments.runner import fingerprint
from tvae_core.experiments.study import nll_of
from tvae_core.runtime import NAMES

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "results"
UNKNOWN = "\N{EN DASH}"
Rows = list[list[str]]


# Run records.


class Seeds(NamedTuple):
    """The records of one run, one for each seed, all measured on the same test images."""

    records: Sequence[RunRecord]

    def of(self, field: str) -> list[float]:
        """Each seed's mean of a field over test images."""
        return [getattr(record, field).mean for record in self.records]

    def active(self) -> list[int]:
        """How many latents are active, for each seed."""
        least = NAMES["active_variance"]
        return [sum(v > least for v in r.variance_per_latent) for r in self.records]

    def informative(self) -> list[int]:
        """How many latents are informative, for each seed."""
        least = NAMES["informative_kl"]
        return [sum(kl > least for kl in r.kl_per_latent) for r in self.records]

    def seconds(self) -> list[float]:
        """The seconds of each seed's fastest epoch, in which its machine had least other work."""
        return [round(min(row["seconds"] for row in r.curves), 3) for r in self.records]

    def per_image(self, field: str) -> torch.Tensor:
        """The values of a field for S seeds and N test images, as (S, N)."""
        return torch.tensor([getattr(r, f"{field}_per_image") for r in self.records]).double()


@functools.cache
def records(profile: str) -> dict[str, dict[int, Seeds]]:
    """All records of a profile, by run and by number of test images."""
    found: dict[str, dict[int, list[RunRecord]]] = {}
    for record in results.all_records():
        if record.profile == profile:
            by_size = found.setdefault(record.name, {})
            by_size.setdefault(record.data["test"]["n"], []).append(record)
    return {
        name: {n: Seeds(sorted(group, key=lambda r: r.seed)) for n, group in sizes.items()}
        for name, sizes in found.items()
    }


def seeds_of(name: str, profile: str = "paper") -> Seeds | None:
    """The records of a run on the smallest test set, which every seed was measured on."""
    by_size = records(profile).get(name)
    return by_size[min(by_size)] if by_size else None


def whole(name: str) -> Seeds | None:
    """The records of a run on all 10,000 test images, which only some seeds have."""
    return records("paper").get(name, {}).get(10_000)


def all_records(name: str) -> list[RunRecord]:
    """The records of a run on any number of test images."""
    return [record for seeds in records("paper").get(name, {}).values() for record in seeds.records]


# Numbers as text.


def mean_sd_over_seeds(name: str, field: str = "nll", profile: str = "paper") -> str:
    """Mean ± standard deviation over the seeds of a run."""
    seeds = seeds_of(name, profile)
    return UNKNOWN if seeds is None else mean_sd(seeds.of(field))


def mean_sd(values: Sequence[float], digits: int = 2) -> str:
    """Mean ± standard deviation of some values; a single value stands alone."""
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    return f"{statistics.mean(values):.{digits}f} ± {statistics.stdev(values):.{digits}f}"


def paired_gap(a: str, b: str, profile: str = "paper") -> Estimate | None:
    """The NLL of run `a` minus that of run `b` on the same test images, and its standard error.

    The error covers seeds and images: how far other seeds and other images would move the gap. The
    error of `results.gap_over_seeds` is over seeds only.
    """
    first, second = seeds_of(a, profile), seeds_of(b, profile)
    if first is None or second is None:
        return None
    _check_same_images(first, second)
    gaps = first.per_image("nll").mean(0) - second.per_image("nll").mean(0)
    mean, images = mean_se(gaps)
    runs = [s.of("nll") for s in (first, second)]
    seeds = sum(statistics.variance(v) / len(v) if len(v) > 1 else 0 for v in runs)
    return Estimate(mean, (images**2 + seeds) ** 0.5)


def _check_same_images(*runs: Seeds) -> None:
    tested = {record.data["test"]["sha256"] for seeds in runs for record in seeds.records}
    names = sorted({record.name for seeds in runs for record in seeds.records})
    assert len(tested) <= 1, f"{' and '.join(names)} were measured on different images"


def difference(a: str, b: str, profile: str = "paper") -> str:
    """`paired_gap` as text."""
    found = paired_gap(a, b, profile)
    return f"{found.mean:+.2f} ± {found.se:.2f}" if found else UNKNOWN


def plus_minus(value: Estimate) -> str:
    """A mean and its standard error."""
    return f"{value.mean:.2f} ± {value.se:.2f}"


def printed_nll(name: str) -> str:
    """The NLL that the study prints for a run."""
    value = nll_of(name)
    return UNKNOWN if value is None else f"{value:.2f}"


# Tables.


class Table(NamedTuple):
    """A caption, and rows of cells; the first row is the head."""

    caption: str
    rows: Rows
    runs: list[str]  # the runs whose records the table reads
    profile: str = "paper"
    over: str = "Mean over {} ± their standard deviation."  # what the cells do with the seeds

    @property
    def full_caption(self) -> str:
        """The caption with the number of seeds, and with a warning about outdated records."""
        return " ".join([self.caption, *filter(None, (self._seeds(), self._stale()))])

    @property
    def any_record(self) -> bool:
        """Whether there is anything to show yet."""
        return len(self.rows) > 1 and (not self.runs or bool(self._read()))

    def _read(self) -> dict[str, Seeds]:
        found = {name: seeds_of(name, self.profile) for name in self.runs}
        return {name: seeds for name, seeds in found.items() if seeds}

    def _seeds(self) -> str:
        counts = sorted({len(seeds.records) for seeds in self._read().values()})
        if not counts:
            return ""
        least, most = counts[0], counts[-1]
        if most == 1 and self.over:
            return "One seed."
        return self.over.format(f"{least} to {most} seeds" if least < most else f"{most} seeds")

    def _stale(self) -> str:
        read = self._read()
        old = [
            f"`{name}`"
            for name, seeds in read.items()
            if any(r.fingerprint != current_fingerprint(name) for r in seeds.records)
        ]
        if not old:
            return ""
        which = "" if len(old) == len(read) else f" {', '.join(old)}"
        return f"Trained by code that behaved differently{':' * bool(which)}{which}."


@functools.cache
def current_fingerprint(name: str) -> str:
    """How today's code behaves when it trains and evaluates a run."""
    return fingerprint(RUNS[name])
