"""The tables of what and where, from the records of `tvae_core.experiments.where`."""

import itertools
import math
import statistics
from typing import Any

from tvae_core.experiments import where

from .base import UNKNOWN, Table, mean_sd, plus_minus

MODELS = (where.ABSENT, "plain", where.AUGMENTED, *where.MODELS[1:])
WORDS = {model: model for model in MODELS} | {where.ABSENT: "ink moments"}
# The columns of the scores: a title, and where a record keeps the number.
COLUMNS: dict[str, tuple[str, ...]] = {
    "turn: follows": ("moves", "degrees", "error"),
    "turn: agrees": ("poses", "degrees", "error"),
    "shift: follows": ("moves", "shift_x", "error"),
    "class from z": ("contents", "z", "linear"),
    "class from u": ("contents", "u", "linear"),
    "turn from z": ("contents", "z", "turn_forest"),
    "turn from u": ("contents", "u", "turn_forest"),
}
TURNED: dict[str, tuple[str, ...]] = {
    "turn: follows": ("moves", "degrees", "error"),
    "class from z": ("contents", "z", "linear"),
    "clusters of z": ("contents", "z", "clusters"),
}


def where_table() -> Table:
    """Poses and probes of all models, on digits and on letters."""
    rows = [["pictures", "model", "seeds", *COLUMNS, "NLL"]]
    for pictures, model in itertools.product(("digits", "glyphs"), WORDS):
        if seeds := where.scored(pictures, model):
            rows.append([pictures, WORDS[model], *_cells(seeds, COLUMNS)])
    return Table(
        "What and where, on 2,000 test pictures in known poses. Follows: the median error of an "
        "inferred pose that should follow a known move; agrees: that of one that should agree with "
        "the true pose, measured from one zero for all pictures (turns in degrees, the shift to "
        "the right in pixels). Then the share of pictures whose class a linear probe gets right; "
        "the share of the variance of the turns (their sine) that a random forest explains; and "
        "the NLL of the first 500 pictures. With several seeds, ± is the standard deviation.",
        rows,
        [],
    )


def turns_table() -> Table:
    """Digits that lie in any direction, with and without a latent for quarter turns."""
    rows = [["model", "seeds", *TURNED, "NLL"]]
    for model in where.EVERY_WAY_MODELS:
        if seeds := where.by_seed(f"turns-{model}"):
            rows.append([WORDS.get(model, model), *_cells(seeds, TURNED)])
    return Table(
        "Digits turned by up to 180 degrees, either way: the median error in degrees of an "
        "inferred turn that should follow a known one, where guessing has 90; the shares of "
        "pictures whose class a linear probe and Ward's clusters get right; and the NLL of the "
        "first 500 pictures. ± is the standard deviation over seeds. The ending -turns stands for "
        "a latent for the quarter turns. The axis of the ink moments is known only up to half a "
        "turn, and is scored accordingly.",
        rows,
        [],
    )


def map_table() -> Table:
    """The NLL by number of training images and added turn."""
    gap_and_worth = "plain minus affine-straight", "worth"
    rows = [["training images", "turns added", "runs", *where.MAPPED, *gap_and_worth]]
    for n, turn in itertools.product(where.SIZES, where.TURNS):
        nlls = [where.mapped(n, turn, model) for model in where.MAPPED]
        if all(nll is None for nll in nlls):
            continue
        cells = [UNKNOWN if nll is None else plus_minus(where.over_runs(nll)) for nll in nlls]
        lead = where.lead(n, turn, "affine-straight")
        cells.append(UNKNOWN if lead is None else plus_minus(lead))
        worth = where.worth(n, turn, "affine-straight")
        runs = "/".join(str(0 if nll is None else len(nll)) for nll in nlls)
        rows.append([f"{n:,}", f"±{turn}°", runs, *cells, str(worth or UNKNOWN)])
    return Table(
        "How many images a warp is worth: the NLL of 500 test digits, turned like the training "
        "digits, by the number of training images, with the number of runs of each of the three "
        "models. ± is the standard error over pictures and, where there are several runs, over "
        "runs. The last column says how many times as many images the plain model needs to reach "
        "the NLL of affine-straight, by a smooth curve between the sizes; in brackets one standard "
        "error either way, over pictures and runs.",
        rows,
        [],
    )


def _cells(seeds: list[dict[str, Any]], columns: dict[str, tuple[str, ...]]) -> list[str]:
    """The number of seeds, the columns, and the NLL."""
    values = [[_at(seed, keys) for seed in seeds] for keys in columns.values()]
    values.append([statistics.fmean(seed.get("nll", [math.nan])) for seed in seeds])
    return [str(len(seeds)), *map(_cell, values)]


def _at(record: dict[str, Any], keys: tuple[str, ...]) -> float:
    """A number of a record; NaN if the model has nothing of the kind."""
    part: Any = record
    for key in keys:
        part = part.get(key, {})
    return math.nan if part == {} else part


def _cell(values: list[float]) -> str:
    values = [value for value in values if not math.isnan(value)]
    return mean_sd(values) if values else ""


TABLES = {"where": where_table, "turns": turns_table, "map": map_table}
