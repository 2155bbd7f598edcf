"""The table of poses found in images whose poses are known, from results/own_images.json."""

import json
import statistics
from typing import Any

from .base import RESULTS, Table

RECORD = RESULTS / "own_images.json"
SETS = {"glyphs": "letters", "digits": "digits"}
WAYS = {
    "model": "the command",
    "new": "the command, on new pictures (`--model`)",
    "moments": "moments of the ink",
    "registration": "registration to the class's upright mean",
}


def record() -> dict[str, list[dict[str, Any]]]:
    """What tools/own_images.py measured, by set, for one seed after the other."""
    found: dict[str, Any] = json.loads(RECORD.read_bytes()) if RECORD.exists() else {}
    return found


def error(name: str, way: str, unit: str, what: str = "median") -> float:
    """The mean over seeds of an error of a set."""
    return statistics.fmean(run["errors"][way][unit][what] for run in record()[name])


def own_images_table() -> Table:
    """The median error of each way, and the error that nine images in ten stay below."""
    rows = [["set", "poses by", "turn (degrees)", "shift (pixels)", "scale (%)"]]
    for name in record():
        for way, words in WAYS.items():
            cells = []
            for unit, digits in {"degrees": 1, "shift": 2, "scale": 0}.items():
                times = 100 if unit == "scale" else 1
                median, tail = (times * error(name, way, unit, of) for of in ("median", "p90"))
                cells.append(f"{median:.{digits}f} ({tail:.{digits}f})")
            rows.append([SETS[name], words, *cells])
    return Table(
        "Median error of the pose, and in brackets the error that 90 % of the images stay below.",
        rows,
        [],
    )


TABLES = {"own_images": own_images_table}
