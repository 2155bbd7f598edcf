"""What all tables share: the run records by seed, numbers as text, and what a table consists of."""

import functools
import re
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from tvae_core.evaluation import mean_se
from tvae_core.experiments import code_of
from tvae_core.recipes import RUNS
from tvae_core.records import RunRecord, load_record
from tvae_core.runtime import NAMES
from tvae_core.study import nll_of

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "results"
UNKNOWN = "\N{EN DASH}"
Rows = list[list[str]]


# Run records.


def mean_of(record: RunRecord, field: str) -> float:
    """A run's mean over test images of "recon", "kl_z", "kl_u" or "nll"."""
    mean: float = getattr(record, field)[0]
    return mean


def error_of(record: RunRecord, field: str) -> float:
    """The standard error of that mean over test images."""
    error: float = getattr(record, field)[1]
    return error


def device_of(record: RunRecord) -> tuple[str, int]:
    """What a run was trained on ("CPU", or a GPU's product name), and how many workers shared it.

    Records hold both in one sentence, such as "NVIDIA H100 80GB HBM3, shared by 4 workers, 5 side
    by side". This is the only place that takes it apart.
    """
    shared = re.search(r"shared by (\d+) workers", record.device)
    return record.device.partition(",")[0], int(shared[1]) if shared else 1


class Seeds(NamedTuple):
    """The records of one run, one for each seed, all measured on the same test images."""

    records: Sequence[RunRecord]

    def of(self, field: str) -> list[float]:
        """Each seed's mean of a field over test images."""
        return [mean_of(record, field) for record in self.records]

    def active(self) -> list[int]:
        """How many latents are active, for each seed."""
        least = NAMES["active_variance"]
        return [sum(v > least for v in r.variance_per_latent) for r in self.records]

    def informative(self) -> list[int]:
        """How many latents are informative, for each seed."""
        least = NAMES["informative_kl"]
        return [sum(kl > least for kl in r.kl_per_latent) for r in self.records]

    def per_image(self, field: str) -> torch.Tensor:
        """The values of a field for S seeds and N test images, as (S, N)."""
        return torch.tensor([getattr(r, f"{field}_per_image") for r in self.records]).double()

    def on_a_gpu(self) -> list[RunRecord]:
        """The records of the seeds that were trained on a GPU."""
        return [record for record in self.records if device_of(record)[0] != "CPU"]


@functools.cache
def records(folder: str) -> dict[str, dict[int, Seeds]]:
    """All records in results/FOLDER, by run and by number of test images."""
    found: dict[str, dict[int, list[RunRecord]]] = {}
    for path in sorted((RESULTS / folder).glob("*.json")):
        record = load_record(path)
        by_size = found.setdefault(record.name, {})
        by_size.setdefault(record.data["test"]["n"], []).append(record)
    return {
        name: {n: Seeds(sorted(group, key=lambda r: r.seed)) for n, group in sizes.items()}
        for name, sizes in found.items()
    }


def seeds_of(name: str, folder: str = "records") -> Seeds | None:
    """The records of a run on the smallest test set, which every seed was measured on."""
    by_size = records(folder).get(name)
    return by_size[min(by_size)] if by_size else None


def whole(name: str) -> Seeds | None:
    """The records of a run on all 10,000 test images, which only some seeds have."""
    return records("records").get(name, {}).get(10_000)


def all_records(name: str) -> list[RunRecord]:
    """The records of a run on any number of test images."""
    return [
        record for seeds in records("records").get(name, {}).values() for record in seeds.records
    ]


# Numbers as text.


def mean_sd_over_seeds(name: str, field: str = "nll", folder: str = "records") -> str:
    """Mean ± standard deviation over the seeds of a run."""
    seeds = seeds_of(name, folder)
    return UNKNOWN if seeds is None else mean_sd(seeds.of(field))


def mean_sd(values: Sequence[float]) -> str:
    """Mean ± standard deviation of some values; a single value stands alone."""
    if len(values) == 1:
        return f"{values[0]:.2f}"
    return f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f}"


def paired_gap(
    a: str, b: str, field: str = "nll", folder: str = "records"
) -> tuple[float, float] | None:
    """Run `a` minus run `b` on the same test images, and the standard error over seeds and images.

    That error says how far other seeds and another test set would move the gap. The error of
    `tvae_core.results.gap_over_seeds` is over seeds only.
    """
    first, second = seeds_of(a, folder), seeds_of(b, folder)
    if first is None or second is None:
        return None
    _check_same_images(first, second)
    gaps = first.per_image(field).mean(0) - second.per_image(field).mean(0)
    mean, images = mean_se(gaps)
    runs = [s.of(field) for s in (first, second)]
    seeds = sum(statistics.variance(v) / len(v) if len(v) > 1 else 0 for v in runs)
    return mean, (images**2 + seeds) ** 0.5


def _check_same_images(*runs: Seeds) -> None:
    tested = {record.data["test"]["sha256"] for seeds in runs for record in seeds.records}
    names = sorted({record.name for seeds in runs for record in seeds.records})
    assert len(tested) <= 1, f"{' and '.join(names)} were measured on different images"


def difference(a: str, b: str, field: str = "nll", folder: str = "records") -> str:
    """`paired_gap` as text."""
    found = paired_gap(a, b, field, folder)
    return f"{found[0]:+.2f} ± {found[1]:.2f}" if found else UNKNOWN


def plus_minus(value: Sequence[float]) -> str:
    """A mean and its standard error."""
    mean, standard_error = value
    return f"{mean:.2f} ± {standard_error:.2f}"


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
    folder: str = "records"
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
        found = {name: seeds_of(name, self.folder) for name in self.runs}
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
            if any(r.code_hash not in current_hashes(name) for r in seeds.records)
        ]
        if not old:
            return ""
        which = "" if len(old) == len(read) else f" {', '.join(old)}"
        return f"Trained by code older than the present one{':' * bool(which)}{which}."


@functools.cache
def current_hashes(name: str) -> set[str]:
    """The hashes of today's code for a run, trained alone or side by side with other seeds."""
    return {code_of(RUNS[name], stacked) for stacked in (False, True)}
