"""Tables of poses found in images of known pose, from what tools/own_images.py wrote."""

import json
import statistics
from pathlib import Path
from typing import Any

from .base import RESULTS, Table, mean_sd

RECORD = RESULTS / "own_images.json"
OTHERS = RESULTS / "own_settings.json"
SETS = {"glyphs": "letters", "digits": "digits"}
WAYS = {
    "model": "the command",
    "new": "the command, on new pictures (`--model`)",
    "moments": "moments of the ink",
    "registration": "registration to the class's upright mean",
}
SETTINGS = {
    "default": "the default",
    "continuous-bernoulli": "`--likelihood continuous-bernoulli`",
    "normal": "`--likelihood normal`",
    "known": "`--turn 26 --shift 2.3 --scale 13`",
    "fixed": "the same with `--fixed`",
    "conv": "`--body conv`",
    "free pose": "`own.train(strict=0)`: z has its full price from the start",
    "plain warm-up": "`own.train(strict=-1)`: z and u both cost nothing at first",
}
DECIMALS = {"degrees": 1, "shift": 2, "scale": 0}
TIMES = {"degrees": 1, "shift": 1, "scale": 100}  # scales in per cent


def record(path: Path | None = None) -> dict[str, list[dict[str, Any]]]:
    """What tools/own_images.py measured, by set, for one seed after the other."""
    path = path or RECORD
    found: dict[str, Any] = json.loads(path.read_bytes()) if path.exists() else {}
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
            for unit, digits in DECIMALS.items():
                median, tail = (
                    TIMES[unit] * error(name, way, unit, of) for of in ("median", "p90")
                )
                cells.append(f"{median:.{digits}f} ({tail:.{digits}f})")
            rows.append([SETS[name], words, *cells])
    return Table(
        "Median error of the pose, and in brackets the error that 90 % of the images stay below.",
        rows,
        [],
    )


def over_seeds(settings: str, way: str, unit: str) -> list[float]:
    """The median errors on letters, one for each seed, with other settings of the command."""
    runs = record(OTHERS)[settings]
    return [TIMES[unit] * run["errors"][way][unit]["median"] for run in runs]


def held_out(runs: list[dict[str, Any]]) -> float:
    """The mean ELBO of held-out images over runs, in nats."""
    return statistics.fmean(run["held_out_elbo"] for run in runs)


def own_settings_table() -> Table:
    """The median errors on letters, by the settings of the command."""
    rows = [["settings", "seeds", "turn (degrees)", "shift (pixels)", "scale (%)", "new: turn"]]
    found = record(OTHERS)
    for settings in filter(found.get, SETTINGS):
        columns = [("model", unit) for unit in DECIMALS] + [("new", "degrees")]
        cells = [
            mean_sd(over_seeds(settings, way, unit), max(1, DECIMALS[unit]))
            for way, unit in columns
        ]
        rows.append([SETTINGS[settings], str(len(found[settings])), *cells])
    return Table(
        "Median error of the pose of letters, by settings: mean and standard deviation over "
        "seeds. The last column is about turns of new pictures.",
        rows,
        [],
    )


TABLES = {"own_images": own_images_table, "own_settings": own_settings_table}
