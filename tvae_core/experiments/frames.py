"""Run records as pandas DataFrames."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from typing import Any

from tvae_core.checks import check_known
from tvae_core.experiments.archive import key_of
from tvae_core.experiments.records import ESTIMATES, RunRecord

Columns = Mapping[str, list[Any]]


def frame(records: Iterable[RunRecord], table: str) -> Any:
    """One of `TABLES` for the given records: see `results.frame`."""
    import pandas as pd

    check_known("table", table, TABLES)
    parts = []
    for record in records:
        columns = TABLES[table](record)
        n = len(next(iter(columns.values())))
        key = zip(("run", "profile", "seed", "images"), key_of(record), strict=True)
        parts.append({**{name: [value] * n for name, value in key}, **columns})
    names = dict.fromkeys(chain(*parts))
    return pd.DataFrame(
        {
            name: list(chain(*(part.get(name) or [None] * len(part["run"]) for part in parts)))
            for name in names
        }
    )


def _run(record: RunRecord) -> Columns:
    row: dict[str, Any] = {}
    for name in ESTIMATES:
        row[name], row[f"{name}_se"] = getattr(record, name)
    row |= {name: getattr(record, name) for name in ("nll_mc_se", "ess_median", "fingerprint")}
    groups = {
        "config": record.config,
        "machine": vars(record.machine),
        "seconds": record.seconds,
        "versions": record.versions,
    }
    for group, fields in groups.items():
        row |= {f"{group}_{name}": value for name, value in fields.items()}
    for split in ("train", "test"):
        row[f"{split}_sha256"] = record.data[split]["sha256"]
    return {name: [value] for name, value in row.items()}


TABLES: dict[str, Callable[[RunRecord], Columns]] = {
    "runs": _run,
    "curves": lambda r: {name: [row[name] for row in r.curves] for name in r.curves[0]},
    "nll_at": lambda r: {"k": r.nll_ks, "nll": r.nll_at},
    "per_image": lambda r: {
        "image": list(range(len(r.nll_per_image))),
        "nll": r.nll_per_image,
        "recon": r.recon_per_image,
    },
    "per_latent": lambda r: {
        "latent": list(range(len(r.kl_per_latent))),
        "kl": r.kl_per_latent,
        "variance": r.variance_per_latent,
    },
}
