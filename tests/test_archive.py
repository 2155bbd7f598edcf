"""Laws of the archive: records come back as they were, damage is found, tables hold every value."""

import dataclasses
import json
import math

import pytest

from tvae_core.evaluation import Estimate
from tvae_core.experiments import archive, results
from tvae_core.experiments.archive import key_of

BASE = results.record_of("plain-vae")


def record(seed: int, n: int = 3, name: str = "plain-vae", **fields):
    """A small record in which every number has a value of its own."""
    start = 1000 * seed + 10 * n
    values = [round(start + 0.001 * i, 3) for i in range(n)]
    return dataclasses.replace(
        BASE,
        name=name,
        seed=seed,
        data={**BASE.data, "test": {"name": "test", "n": n, "sha256": f"{n:064x}"}},
        curves=[dict.fromkeys(archive.CURVES, start + epoch / 7) for epoch in range(2 + seed)],
        nll=Estimate(start + 1.25, 0.5),
        nll_per_image=values,
        recon_per_image=[round(value - 20.5 - 0.25 * seed, 3) for value in values],
        kl_per_latent=[round(start + 0.0001 * i, 4) for i in range(2 + seed)],
        variance_per_latent=[round(0.00001 * (start + i), 5) for i in range(2 + seed)],
        **fields,
    )


RECORDS = [record(2), record(0), record(1, n=5), record(1, name="tps-vae")]


def test_records_come_back_as_they_were(tmp_path):
    archive.write(RECORDS, tmp_path)
    assert archive.read(tmp_path) == sorted(RECORDS, key=key_of)


def test_every_record_of_the_book_comes_back_as_it_was(tmp_path):
    kept = archive.read(results.ARCHIVE)
    archive.write(kept, tmp_path)
    assert archive.read(tmp_path) == kept
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (results.ARCHIVE / path.name).read_bytes(), path.name


def test_no_record_is_kept_twice(tmp_path):
    with pytest.raises(ValueError, match="the same name, profile, seed and number"):
        archive.write([*RECORDS, record(0)], tmp_path)
    keys = [key_of(kept) for kept in results.all_records()]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("name", [archive.RUNS, "per_image.parquet", "lowest.parquet"])
def test_a_damaged_file_is_named(tmp_path, name):
    archive.write(RECORDS, tmp_path)
    content = bytearray((tmp_path / name).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / name).write_bytes(content)
    with pytest.raises(OSError, match=rf"{name} is damaged or incomplete"):
        archive.read(tmp_path)


def test_an_interrupted_write_is_not_read_as_whole(tmp_path, monkeypatch):
    archive.write(RECORDS, tmp_path)
    write, written = archive.write_atomically, []

    def stop_at_the_third(path, content):
        written.append(path)
        if len(written) == 3:
            raise KeyboardInterrupt
        write(path, content)

    monkeypatch.setattr(archive, "write_atomically", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        archive.write(RECORDS[:2], tmp_path)
    with pytest.raises(OSError, match="is damaged or incomplete"):
        archive.read(tmp_path)


@pytest.fixture
def archived(tmp_path, monkeypatch) -> None:
    """A repository whose records are RECORDS."""
    archive.write(RECORDS, tmp_path)
    monkeypatch.setattr(results, "ARCHIVE", tmp_path)
    monkeypatch.setattr(results, "recorded", lambda: [])
    results.all_records.cache_clear()
    yield
    results.all_records.cache_clear()


@pytest.mark.usefixtures("archived")
def test_frames_hold_every_value():
    runs = results.frame()
    assert list(runs.seed) == [0, 1, 2, 1]
    assert list(runs.images) == [3, 5, 3, 3]
    assert list(runs.nll) == [31.25, 1051.25, 2031.25, 1031.25]
    assert list(runs.nll_se) == [0.5] * 4
    assert set(runs.config_model) == {"plain"}
    assert set(runs.machine_threads) == {1}
    assert set(runs.train_sha256) == {BASE.data["train"]["sha256"]}
    assert list(runs.test_sha256) == [f"{n:064x}" for n in runs.images]
    counted = {"per_image": "image", "per_latent": "latent", "nll_at": "k"}
    for table, field, column in (
        ("per_image", "nll_per_image", "nll"),
        ("per_image", "recon_per_image", "recon"),
        ("per_latent", "kl_per_latent", "kl"),
        ("per_latent", "variance_per_latent", "variance"),
        ("nll_at", "nll_at", "nll"),
    ):
        frame = results.frame(table)
        for one in RECORDS:
            mine = frame.loc[
                (frame.run == one.name)
                & (frame.seed == one.seed)
                & (frame.images == one.data["test"]["n"])
            ]
            values = getattr(one, field)
            assert list(mine[column]) == values, (table, column, key_of(one))
            counts = one.nll_ks if table == "nll_at" else list(range(len(values)))
            assert list(mine[counted[table]]) == counts
    curves = results.frame("curves")
    assert list(curves[curves.run == "tps-vae"].bound) == [
        row["bound"] for row in RECORDS[3].curves
    ]


def test_an_unknown_table_and_a_missing_archive_are_errors_that_say_what_to_do(
    tmp_path, monkeypatch
):
    with pytest.raises(ValueError, match="unknown table 'images'; known: runs, curves"):
        results.frame("images")
    monkeypatch.setattr(results, "ARCHIVE", tmp_path)
    results.all_records.cache_clear()
    with pytest.raises(FileNotFoundError, match="clone it, and install"):
        results.frame()


def test_the_archive_is_plain_json_and_parquet(tmp_path):
    """What the docstring of the module promises to those who read the files themselves."""
    import pandas as pd

    archive.write(RECORDS, tmp_path)
    runs = json.loads((tmp_path / "runs.json").read_bytes())
    images = pd.read_parquet(tmp_path / "per_image.parquet")
    lowest = pd.read_parquet(tmp_path / "lowest.parquet")
    for index, run in enumerate(runs):
        mine = images[images.record == index]
        low = lowest[lowest.test == run["data"]["test"]["sha256"]].nll.to_numpy()
        (whole,) = (r for r in RECORDS if key_of(r) == key_of(archive.read(tmp_path)[index]))
        nll = (mine.above_lowest.to_numpy() + low) / 1000
        assert nll.tolist() == whole.nll_per_image
        assert math.isclose(run["nll"][0], whole.nll.mean)


def test_all_records_are_the_shipped_ones_and_those_of_the_archive():
    every, shipped = results.all_records(), results.recorded()
    assert len(every) == len(archive.read(results.ARCHIVE)) + len(shipped)
    assert {record.name for record in every[: len(shipped)]} == {*shipped}


def test_an_unknown_field_is_refused():
    with pytest.raises(ValueError, match="unknown field 'bad'; known: "):
        results.over_seeds("plain-vae", "bad")


def test_values_over_seeds_are_those_of_their_field():
    record = results.record_of("plain-vae")
    for field in ("recon", "nll"):
        assert results.over_seeds("plain-vae", field)[0] == getattr(record, field).mean
