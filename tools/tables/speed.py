"""The table about speed, from the records that `make bench` writes, one for each processor."""

import json
import math
from typing import Any

from tvae_core.runtime import NAMES

from .base import RESULTS, Table

PROCESSORS = ("avx2", "avx512", "gpu")  # files in results/bench, in the order of the columns
# The table's groups of rows: which rows of a record they show, and seconds in which unit.
TASKS = {
    "training, k = 1": ("seconds_per_epoch", 1, "s"),
    "training, k = 5": ("seconds_per_epoch", 5, "s"),
    "NLL-5,000": ("seconds_per_nll", None, "ms"),
}
PER_SECOND = {"s": 1, "ms": 1_000}
TIMES = "\N{MULTIPLICATION SIGN}"


def benchmark(name: str) -> dict[str, Any]:
    """A record written by `make bench`."""
    record: dict[str, Any] = json.loads((RESULTS / "bench" / f"{name}.json").read_bytes())
    return record


def speed_table() -> Table:
    """How long tvae_core takes on each processor, and how many times as fast that is."""
    benches = [benchmark(name) for name in PROCESSORS]
    rows = [["task", "decoder"]]
    for bench in benches:
        rows[0].append(bench["processor"])
        if seeds := bench.get("seeds_side_by_side"):
            rows[0].append(f"the same, for each of {seeds} seeds side by side")
    for task, (kind, k, unit) in TASKS.items():
        for decoder, words in NAMES["decoders"].items():
            row = [task, words]
            for bench in benches:
                (times,) = (r for r in bench[kind] if (r["decoder"], r.get("k")) == (decoder, k))
                row.append(_cell(times["tvae_core"], times["tutorial"], unit))
                if "seeds_side_by_side" in bench:
                    # Only training runs side by side: the NLL is computed one seed after the other.
                    together = times.get("side by side")
                    row.append(_cell(together, times["tutorial"], unit) if together else "")
            rows.append(row)
    return Table(
        "How long tvae_core takes for an epoch of 60,000 images or for the NLL of one image, and "
        "how many times as fast as tutorial style it is. A run has all cores of the CPU, or the "
        f"GPU; compiling is not counted. {' '.join(map(_measured_on, benches))}",
        rows,
        [],
    )


def _cell(seconds: float, tutorial: float, unit: str) -> str:
    time = f"{_two_digits(seconds * PER_SECOND[unit])} {unit}"
    return f"{time}, {_two_digits(tutorial / seconds)}{TIMES}"


def _two_digits(x: float) -> str:
    """A number to two significant digits, or to the nearest integer if it is 100 or more."""
    return f"{x:.{max(0, 1 - math.floor(math.log10(x)))}f}"


def _measured_on(bench: dict[str, Any]) -> str:
    """A sentence on the machine behind a column, and on the tries."""
    epoch, nll = (bench["tries"][kind] for kind in ("seconds_per_epoch", "seconds_per_nll"))
    host = "" if bench["processor"].startswith(bench["cpu"]) else f" ({bench['cpu']})"
    tries = f"medians of {epoch} tries" + (f" ({nll} for the NLL)" if nll != epoch else "")
    return f"{bench['processor']}: {bench['cores']} cores{host}, {tries}."


TABLES = {"speed": speed_table}
