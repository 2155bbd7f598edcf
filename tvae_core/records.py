"""Run records: what was run, on what, and what came out, as JSON. Every printed number is read
from one."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tvae_core.runtime import write_atomically


@dataclass(frozen=True)
class RunRecord:
    """One training run and its evaluation. Losses are means over test images, in nats.

    recon, kl_z, kl_u and nll are [mean, standard error over test images]. `nll_mc_se` is the
    Monte-Carlo standard error of the mean NLL. `nll_at` pairs `nll_ks`; the values per image allow
    paired comparisons of models on the same images. Those per latent, z first, then u, are
    `evaluation.Units`.
    """

    name: str
    seed: int
    profile: str
    config: dict[str, Any]
    data: dict[str, Any]
    code_hash: str
    versions: dict[str, str]
    device: str
    seconds: dict[str, float]
    curves: list[dict[str, float]]
    recon: list[float]
    kl_z: list[float]
    kl_u: list[float]
    nll: list[float]
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

    def save(self, path: Path) -> None:
        """Write as JSON, a field a line, atomically."""
        fields = dataclasses.asdict(self).items()
        lines = [f'"{name}": {json.dumps(value, allow_nan=False)}' for name, value in fields]
        text = "{\n" + ",\n".join(lines) + "\n}\n"
        write_atomically(path, text.encode())


def load_record(path: Path) -> RunRecord:
    """Read a record.

    Raises:
        FileNotFoundError: no such record.
        ValueError: not a whole record; the message names the file and what is wrong.
    """
    try:
        return RunRecord(**json.loads(path.read_text()))
    except (json.JSONDecodeError, UnicodeDecodeError, TypeError) as error:
        raise ValueError(
            f"{path} is not a whole run record ({error}); delete it and run again"
        ) from error
