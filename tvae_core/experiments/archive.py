"""All records of the book's runs in a few compact files, which pandas can also open.

A folder of records contains

runs.json            one line per run: its settings and machine, means, standard errors
curves.parquet       one row per epoch of a run's training
per_image.parquet    one row per test image of a run, in 1/1000 nat: above_lowest, its NLL minus the
                     lowest NLL of any run on this image, and nll_less_recon, its NLL minus recon
lowest.parquet       one row per image of each test set, in 1/1000 nat: that lowest NLL
per_latent.parquet   one row per latent of a run: kl in 1/10,000 nat, variance in 1/100,000
SHA256SUMS           the hashes of these files

The column `record` is the run's position in runs.json, counted from 0. Losses vary far more between
images than between runs on the same image, so these differences take less space than the losses,
and integers take much less than text. `results.frame` puts everything back together, in nats.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tvae_core.experiments.records import RunRecord
from tvae_core.runtime import write_atomically

RUNS = "runs.json"
TABLES = ("curves", "per_image", "lowest", "per_latent")
SUMS = "SHA256SUMS"
CURVES = ("epoch", "bound", "recon", "kl_z", "kl_u", "learning_rate", "seconds")
ELSEWHERE = ("curves", "nll_per_image", "recon_per_image", "kl_per_latent", "variance_per_latent")


def read(folder: Path) -> list[RunRecord]:
    """All records in a folder.

    Raises:
        ImportError: pyarrow, which reads Parquet, is missing; the message says how to install it.
        OSError: a file is missing or damaged; the message names it.
    """
    runs = json.loads(_verified(folder, RUNS))
    columns = {name: _columns(folder, name) for name in TABLES}
    starts = {
        name: np.searchsorted(table["record"], range(len(runs) + 1))
        for name, table in columns.items()
        if name != "lowest"
    }
    low = columns["lowest"]
    lowest = {test: low["nll"][low["test"] == test] for test in set(low["test"])}

    def of(index: int, table: str, column: str) -> Any:
        rows = slice(*starts[table][index : index + 2])
        return columns[table][column][rows]

    records = []
    for i, fields in enumerate(runs):
        nll = of(i, "per_image", "above_lowest") + lowest[fields["data"]["test"]["sha256"]]
        recon = nll - of(i, "per_image", "nll_less_recon")
        curves = zip(*(of(i, "curves", name).tolist() for name in CURVES), strict=True)
        fields |= {
            "curves": [dict(zip(CURVES, row, strict=True)) for row in curves],
            "nll_per_image": (nll / 1e3).tolist(),
            "recon_per_image": (recon / 1e3).tolist(),
            "kl_per_latent": (of(i, "per_latent", "kl") / 1e4).tolist(),
            "variance_per_latent": (of(i, "per_latent", "variance") / 1e5).tolist(),
        }
        records.append(RunRecord.of(fields))
    return records


def write(records: Iterable[RunRecord], folder: Path) -> None:
    """Replace a folder's records, sorted by name, profile, seed and number of test images.

    The hashes are written last, so that `read` rejects a folder if writing was interrupted.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    kept = sorted(records, key=key_of)
    if len({key_of(record) for record in kept}) < len(kept):
        raise ValueError("two records have the same name, profile, seed and number of test images")

    def index(counts: Iterable[int]) -> Any:
        return np.repeat(np.arange(len(kept), dtype=np.int16), list(counts))

    def whole(values: Iterable[list[float]], unit: float) -> Any:
        return np.concatenate([np.rint(np.multiply(v, unit)).astype(np.int32) for v in values])

    nll = [whole([record.nll_per_image], 1e3) for record in kept]
    recon = [whole([record.recon_per_image], 1e3) for record in kept]
    tests = [record.data["test"]["sha256"] for record in kept]
    lowest = {
        test: np.min([values for values, of in zip(nll, tests, strict=True) if of == test], 0)
        for test in sorted(set(tests))
    }
    tables = {
        "curves": {
            "record": index(len(r.curves) for r in kept),
            **{name: [row[name] for r in kept for row in r.curves] for name in CURVES},
        },
        "per_image": {
            "record": index(map(len, nll)),
            "above_lowest": np.concatenate(
                [values - lowest[test] for values, test in zip(nll, tests, strict=True)]
            ),
            "nll_less_recon": np.concatenate(nll) - np.concatenate(recon),
        },
        "lowest": {
            "test": [test for test, values in lowest.items() for _ in values],
            "nll": np.concatenate(list(lowest.values())),
        },
        "per_latent": {
            "record": index(len(r.kl_per_latent) for r in kept),
            "kl": whole((r.kl_per_latent for r in kept), 1e4),
            "variance": whole((r.variance_per_latent for r in kept), 1e5),
        },
    }
    lines = []
    for record in kept:
        fields = dataclasses.asdict(record)
        lines.append(json.dumps({n: v for n, v in fields.items() if n not in ELSEWHERE}))
    contents = {RUNS: ("[\n" + ",\n".join(lines) + "\n]\n").encode()}
    for name, columns in tables.items():
        table, file = pa.table(columns), io.BytesIO()
        pq.write_table(
            table,
            file,
            compression="zstd",
            compression_level=19,
            use_dictionary=["record", "test"],
            # Store bytes of equal significance together: the high ones are alike, and compress.
            column_encoding={
                n: "BYTE_STREAM_SPLIT" for n in table.column_names if n not in ("record", "test")
            },
            row_group_size=len(table) or 1,
        )
        contents[f"{name}.parquet"] = file.getvalue()
    for name, text in contents.items():
        write_atomically(folder / name, text)
    write_sums(folder, contents)


def write_sums(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Write SHA256SUMS for files with these contents, as `sha256sum --check` reads it."""
    lines = [f"{hashlib.sha256(text).hexdigest()}  {name}\n" for name, text in contents.items()]
    write_atomically(folder / SUMS, "".join(lines).encode())


def read_sums(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file that a folder's SHA256SUMS lists."""
    lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
    return {file: digest for digest, file in (line.split() for line in lines)}


def key_of(record: RunRecord) -> tuple[str, str, int, int]:
    """What identifies a record: run, profile, seed and number of test images."""
    return record.name, record.profile, record.seed, record.data["test"]["n"]


def _columns(folder: Path, name: str) -> dict[str, Any]:
    """The columns of a table, as numpy arrays."""
    try:
        import pyarrow.parquet as pq
    except ImportError as error:
        raise ImportError("reading the records needs pyarrow; run: pip install pyarrow") from error
    table = pq.read_table(io.BytesIO(_verified(folder, f"{name}.parquet")))
    return {column: table[column].to_numpy() for column in table.column_names}


def _verified(folder: Path, name: str) -> bytes:
    """A file's content, after checking its SHA-256."""
    content = (folder / name).read_bytes()
    if hashlib.sha256(content).hexdigest() != read_sums(folder).get(name):
        raise OSError(f"{folder / name} is damaged or incomplete; restore it")
    return content
