"""The tables of what and where hold the numbers of the records, each in its place."""

import copy
import json
import math
import statistics
from collections.abc import Callable

import pytest
import torch
from tables import where as tables

from tvae_core.experiments import where

SEEDS = 3


@pytest.fixture
def numbered(monkeypatch):
    """Records in which every number is another one, three seeds of each model."""
    known = where.records()
    made, count = {}, iter(range(1, 100_000))

    def other(value):
        if isinstance(value, dict):
            return {key: other(part) for key, part in value.items()}
        return float(next(count)) / 8 if isinstance(value, float) else value

    for name in (*where.GROUPS["scores"], *where.GROUPS["turns"], *where.GROUPS["augmented"]):
        pattern = known.get(name[:-1] + "0")
        if pattern is not None:
            record = copy.deepcopy(pattern)
            for field in ("moves", "poses", "contents"):
                if field in record:
                    record[field] = other(record[field])
            if "nll" in record:
                record["nll"] = [float(next(count)) for _ in range(4)]
            made[name] = record
    for name in where.GROUPS["map"]:
        made[name] = {"nll": torch.rand(5, generator=rng(name)).tolist()}
    monkeypatch.setattr(where, "records", lambda: json.loads(json.dumps(made)))
    return made


def rng(name: str) -> torch.Generator:
    return torch.Generator().manual_seed(sum(map(ord, name)))


def check_cell(cell: str, place: Callable[[dict], float], records: list[dict]) -> None:
    """A cell holds the mean and the standard deviation over seeds, or nothing if there is none."""
    try:
        values = list(map(place, records))
    except KeyError:
        assert cell == ""
        return
    mean, sd = map(float, cell.split(" ± "))
    assert mean == pytest.approx(statistics.fmean(values), abs=0.00501)
    assert sd == pytest.approx(statistics.stdev(values), abs=0.00501)


def test_the_scores_are_means_over_seeds_with_their_standard_deviations(numbered, subtests):
    head, *rows = tables.where_table().rows
    places = {
        "turn: follows": lambda r: r["moves"]["degrees"]["error"],
        "turn: agrees": lambda r: r["poses"]["degrees"]["error"],
        "shift: follows": lambda r: r["moves"]["shift_x"]["error"],
        "class from z": lambda r: r["contents"]["z"]["linear"],
        "class from u": lambda r: r["contents"]["u"]["linear"],
        "turn from z": lambda r: r["contents"]["z"]["turn_forest"],
        "turn from u": lambda r: r["contents"]["u"]["turn_forest"],
        "NLL": lambda r: statistics.fmean(r["nll"]),
    }
    assert head == ["pictures", "model", "seeds", *places]
    for row in rows:
        pictures, model, seeds = row[:3]
        model = "none" if model == "ink moments" else model
        records = [numbered[f"scores-{pictures}-{model}-{seed}"] for seed in range(SEEDS)]
        assert seeds == "3"
        for (title, place), cell in zip(places.items(), row[3:], strict=True):
            with subtests.test(pictures=pictures, model=model, title=title):
                check_cell(cell, place, records)
    assert len(rows) >= 8


def test_digits_that_lie_in_any_direction_have_a_row_for_each_model(numbered, subtests):
    head, *rows = tables.turns_table().rows
    places = {
        "turn: follows": lambda r: r["moves"]["degrees"]["error"],
        "class from z": lambda r: r["contents"]["z"]["linear"],
        "clusters of z": lambda r: r["contents"]["z"]["clusters"],
        "NLL": lambda r: statistics.fmean(r["nll"]),
    }
    assert head == ["model", "seeds", *places]
    known = [name for name in where.EVERY_WAY_MODELS if f"turns-{name}-0" in numbered]
    assert len(known) >= 4
    for (model, seeds, *cells), name in zip(rows, known, strict=True):
        assert model == ("ink moments" if name == where.ABSENT else name)
        records = [numbered[f"turns-{name}-{seed}"] for seed in range(SEEDS)]
        assert seeds == "3"
        for (title, place), cell in zip(places.items(), cells, strict=True):
            with subtests.test(model=model, title=title):
                check_cell(cell, place, records)


def test_the_map_shows_every_cell_and_the_gap_of_plain_and_straight(numbered):
    _, *rows = tables.map_table().rows
    assert len(rows) == len(where.SIZES) * len(where.TURNS)
    for n, turn, runs, *cells, worth in rows:
        n, turn = n.replace(",", ""), turn.strip("±°")
        expected = where.worth(int(n), int(turn), "affine-straight")
        assert worth == (tables.UNKNOWN if n == "59500" else str(expected))
        assert runs == "3/3/3"
        nlls = [
            torch.tensor([numbered[f"map-{n}-{turn}-{model}-{s}"]["nll"] for s in range(SEEDS)])
            for model in ("plain", "affine", "affine-straight")
        ]
        for values, cell in zip([*nlls, nlls[0] - nlls[2]], cells, strict=True):
            mean, se = map(float, cell.split(" ± "))
            assert mean == pytest.approx(values.mean().item(), abs=0.00501)
            parts = values.mean(0).std() / math.sqrt(5), values.mean(1).std() / math.sqrt(SEEDS)
            assert se == pytest.approx(math.hypot(*parts), abs=0.00501)


def test_a_lead_is_that_of_runs_with_the_same_seed(numbered):
    del numbered["map-500-0-plain-2"]
    _, *rows = tables.map_table().rows
    first = next(row for row in rows if row[:2] == ["500", "±0°"])
    assert first[2] == "2/3/3"
    gaps = [
        statistics.fmean(numbered[f"map-500-0-plain-{seed}"]["nll"])
        - statistics.fmean(numbered[f"map-500-0-affine-straight-{seed}"]["nll"])
        for seed in (0, 1)
    ]
    assert float(first[-2].split()[0]) == pytest.approx(statistics.fmean(gaps), abs=0.00501)


def test_what_is_not_measured_is_left_out(monkeypatch):
    monkeypatch.setattr(where, "records", dict)
    assert not tables.where_table().any_record
    assert not tables.turns_table().any_record
    assert not tables.map_table().any_record
