"""The table of poses found in images whose poses are known, from results/own_images.json."""

import json
from typing import Any

from .base import RESULTS, Table

RECORD = RESULTS / "own_images.json"
SETS = {"glyphs": "letters", "digits": "digits"}
WAYS = {
    "model": "the command",
    "moments": "moments of the ink",
    "registration": "registration to the class's upright mean",
}


def record() -> dict[str, Any]:
    """What tools/own_images.py measured, by set."""
    found: dict[str, Any] = json.loads(RECORD.read_bytes()) if RECORD.exists() else {}
    return found


def own_images_table() -> Table:
    """The median error of each way, and the error that nine images in ten stay below."""
    rows = [["set", "poses by", "turn (degrees)", "shift (pixels)", "scale (%)"]]
    for name, found in record().items():
        for way, words in WAYS.items():
            errors = found["errors"][way]
            percent = {key: 100 * value for key, value in errors["scale"].items()}
            cells = (errors["degrees"], errors["shift"], percent)
            rows.append(
                [
                    SETS[name],
                    words,
                    *(
                        f"{cell['median']:.{digits}f} ({cell['p90']:.{digits}f})"
                        for cell, digits in zip(cells, (1, 2, 0), strict=True)
                    ),
                ]
            )
    return Table(
        "Median error of the pose, and in brackets the error that 90 % of the images stay below.",
        rows,
        [],
    )


TABLES = {"own_images": own_images_table}
