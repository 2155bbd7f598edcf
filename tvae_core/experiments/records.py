"""Run records: what was run, on which data, with which results. Every printed number is read from
one."""

from __future__ import annotations

import dataclasses
import json
import platform
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from tvae_core.evaluation import Estimate
from tvae_core.runtime import write_atomically


def device_name(device: torch.device) -> str:
    """A readable name: "CPU", "Apple GPU", or the product name of the CUDA GPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return "Apple GPU" if device.type == "mps" else "CPU"


def versions() -> dict[str, str]:
    """Versions of the software that a number may depend on, for records."""
    found = {package: metadata.version(package) for package in ("torch", "numpy", "tvae-core")}
    return {**found, "python": platform.python_version()}


@dataclass(frozen=True)
class Machine:
    """What a run was trained on; training times are comparable only between equal machines.

    `threads` is the number of CPU threads, None on a GPU. `workers` processes shared the device,
    and each trained `side_by_side` seeds at once.
    """

    device: str
    threads: int | None = None
    workers: int = 1
    side_by_side: int = 1

    @classmethod
    def here(cls, device: torch.device, workers: int = 1, side_by_side: int = 1) -> Machine:
        """The machine that this code runs on."""
        threads = torch.get_num_threads() if device.type == "cpu" else None
        return cls(device_name(device), threads, workers, side_by_side)

    def __str__(self) -> str:
        words = [self.device]
        if self.threads:
            words.append(f"{self.threads} thread{'s' * (self.threads > 1)}")
        if self.workers > 1:
            words.append(f"shared by {self.workers} workers")
        if self.side_by_side > 1:
            words.append(f"{self.side_by_side} side by side")
        return ", ".join(words)


@dataclass(frozen=True)
class RunRecord:
    """One training run and its evaluation. Losses are means over test images, in nats.

    recon, kl_z, kl_u and nll come with their standard error over test images. `nll_mc_se` is the
    Monte Carlo standard error of the mean NLL. `nll_at` gives the NLL for each number of draws in
    `nll_ks`. The values per image allow paired comparisons of models on the same images. The values
    per latent, z first, are those of `evaluation.Units`. `fingerprint` shows how the code behaved
    when it made the record: see `runner.fingerprint`.
    """

    name: str
    seed: int
    profile: str
    config: dict[str, Any]
    data: dict[str, Any]
    fingerprint: str
    versions: dict[str, str]
    machine: Machine
    seconds: dict[str, float]
    curves: list[dict[str, float]]
    recon: Estimate
    kl_z: Estimate
    kl_u: Estimate
    nll: Estimate
    nll_mc_se: float
    nll_ks: list[int]
    nll_at: list[float]
    ess_median: float
    nll_per_image: list[float]
    recon_per_image: list[float]
    kl_per_latent: list[float]
    variance_per_latent: list[float]

    @property
    def binary(self) -> bool:
        """Whether the model was trained on binary pixels."""
        return bool(self.config["binarization"] != "none")

    @classmethod
    def of(cls, fields: dict[str, Any]) -> RunRecord:
        """The record with these fields, in their JSON form.

        Raises:
            TypeError: a field that is missing or unknown.
        """
        fields = dict(fields)
        for name in ESTIMATES:
            if name in fields:
                fields[name] = Estimate(*fields[name])
        if "machine" in fields:
            fields["machine"] = Machine(**fields["machine"])
        return cls(**fields)

    def save(self, path: Path) -> None:
        """Write as JSON, one line per field, atomically."""
        fields = dataclasses.asdict(self).items()
        lines = [f'"{name}": {json.dumps(value, allow_nan=False)}' for name, value in fields]
        text = "{\n" + ",\n".join(lines) + "\n}\n"
        write_atomically(path, text.encode())


ESTIMATES = [field.name for field in dataclasses.fields(RunRecord) if field.type == "Estimate"]


def load_record(path: Path) -> RunRecord:
    """Read a record.

    Raises:
        FileNotFoundError: no such record.
        ValueError: not a complete record; the message names the file and the problem.
    """
    try:
        return RunRecord.of(json.loads(path.read_bytes()))
    except (json.JSONDecodeError, UnicodeDecodeError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is not a complete run record ({error}); delete it and run again"
        ) from error
