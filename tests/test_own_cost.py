"""The time and the memory of the command are measured on the pictures that the record names."""

import json
import sys

import numpy as np
import own_cost
from PIL import Image


def test_pictures_are_as_many_different_letters_as_asked_for(tmp_path):
    own_cost.pictures(tmp_path / "letters", 1_003, 12)
    paths = sorted((tmp_path / "letters").iterdir(), key=lambda path: int(path.stem))
    assert [path.name for path in paths] == [f"{i}.png" for i in range(1_003)]
    pixels = [np.array(image) for image in map(Image.open, paths)]
    assert {x.shape for x in pixels} == {(12, 12)}
    assert len({x.tobytes() for x in pixels}) > 900


def test_a_run_of_the_command_is_measured():
    found = own_cost.measure(40, 12, ["--epochs", "3"])
    assert (found["images"], found["side"], found["epochs"]) == (40, 12, 3)
    assert found["options"] == ["--epochs", "3"]
    assert 1 < found["seconds"]["cpu"] <= own_cost.THREADS * found["seconds"]["wall"]
    assert 1e8 < found["peak_bytes"] < 4e9  # torch alone takes the lower one


def test_a_measurement_replaces_that_of_the_same_pictures_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(own_cost, "RECORD", tmp_path / "own_cost.json")
    known = [{"images": n, "side": side, "run": "old"} for n, side in ((2, 64), (5, 32), (5, 64))]
    own_cost.RECORD.write_text(json.dumps(known), encoding="utf-8")
    seen = []

    def measure(n, side, options):
        seen.append(options)
        return {"images": n, "side": side, "run": "new"}

    monkeypatch.setattr(own_cost, "measure", measure)
    command = ["own_cost", "--images", "5", "--side", "64", "--", "--epochs", "1"]
    monkeypatch.setattr(sys, "argv", command)
    own_cost.main()
    kept = json.loads(own_cost.RECORD.read_bytes())
    assert [(run["images"], run["side"], run["run"]) for run in kept] == [
        (2, 64, "old"),
        (5, 32, "old"),
        (5, 64, "new"),
    ]
    assert seen == [["--epochs", "1"]]
