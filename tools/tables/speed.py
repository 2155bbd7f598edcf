"""Tables about speed, from the records that `make bench` writes."""

import functools
import json
from collections.abc import Sequence
from typing import Any

from tvae_core.recipes import RECIPES
from tvae_core.records import RunRecord
from tvae_core.runtime import NAMES

from .base import RESULTS, Rows, Seeds, Table, device_of, seeds_of, whole

SIDE_BY_SIDE = 5  # seeds


def benchmark(name: str) -> dict[str, Any]:
    """A record of `make bench`."""
    return json.loads((RESULTS / "bench" / f"{name}.json").read_text())


def speed_tables() -> dict[str, Table]:
    """Ours against tutorial-style code on a CPU, from the records in results/bench."""
    names = sorted(path.stem for path in (RESULTS / "bench").glob("*.json") if path.stem != "gpu")
    benches = {name.upper(): benchmark(name) for name in names}
    (cores,) = {bench["cores"] for bench in benches.values()}
    machines = {vectors: f"{bench['processor']}, {vectors}" for vectors, bench in benches.items()}
    modes = {vectors: (bench, bench["on_each_core"]) for vectors, bench in benches.items()}

    def compared(rows_of: str, unit: str, known: Sequence[str]) -> Rows:
        """Both ways, and how many times ours is faster, on each machine and in each mode."""
        scale, digits = {"s": (1, 1), "ms": (1e3, 0)}[unit]
        rows = [["processor", *known]]
        for words in ("one run", f"{cores} at once"):
            rows[0] += [f"{words}: {way}, {unit}" for way in ("tutorial style", "tvae_core")]
            rows[0] += ["times faster"]
            rows[0] += ["of the limit"] * (rows_of == "seconds_per_epoch")
        for vectors, machine in machines.items():
            for together in zip(*(mode[rows_of] for mode in modes[vectors]), strict=True):
                model, *others = (together[0][name] for name in ("model", *known[1:]))
                rows.append([machine, NAMES["decoders"][model], *map(str, others)])
                for one in together:
                    slow, fast = (scale * one[way] for way in ("tutorial", "tvae_core"))
                    rows[-1] += [f"{slow:.{digits}f}", f"{fast:.{digits}f}", f"{slow / fast:.1f}"]
                    if "share of limit" in one:
                        rows[-1] += [f"{one['share of limit']:.0%}"]
        return rows

    limits = "; ".join(
        " and ".join(f"{mode['matmul_limit_gflops']:.0f}" for mode in both)
        + f" GFLOP/s with {vectors}"
        for vectors, both in modes.items()
    )

    def tries(rows_of: str, known: str) -> str:
        """How many tries a median is of; older records tell it once, and not in each row."""
        counts = {
            row.get("tries", bench.get(known))
            for vectors, bench in benches.items()
            for mode in modes[vectors]
            for row in mode[rows_of]
        }
        return " to ".join(map(str, dict.fromkeys((min(counts), max(counts)))))

    where = f"{cores} cores: one run on both, or a run on each. Medians of"
    memory = [["processor", "importance samples K", "tutorial style, MB", "tvae_core, MB"]]
    for vectors, bench in benches.items():
        for row in bench["peak_mb"]:
            peaks = (f"{row[way]:.0f}" for way in ("tutorial", "tvae_core"))
            memory.append([machines[vectors], f"{row['k']:,}", *peaks])
    return {
        "speed_training": Table(
            "Seconds for an epoch of 60,000 images, and the share reached of the machine's limit "
            f"in large matrix products ({limits}). {where} "
            f"{tries('seconds_per_epoch', 'repeats')}.",
            compared("seconds_per_epoch", "s", ("decoder", "k")),
            [],
        ),
        "speed_nll": Table(
            f"Milliseconds for the NLL-5,000 of an image. {where} "
            f"{tries('seconds_per_nll', 'nll_repeats')}.",
            compared("seconds_per_nll", "ms", ("decoder",)),
            [],
        ),
        "speed_memory": Table(f"Peak memory of the NLL of one image, {cores} cores.", memory, []),
    }


def gpu_speed_tables() -> dict[str, Table]:
    """The same on a GPU, where seeds also train side by side, from results/bench/gpu.json."""
    bench = benchmark("gpu")
    training = [["decoder", "k", "tutorial style, s", "tvae_core, s", "times faster"]]
    training[0] += [f"a seed of {SIDE_BY_SIDE} side by side, s", "times faster"]
    for found in bench["seconds_per_epoch"]:
        slow, one, stacked = (found[way] for way in ("tutorial", "tvae_core", "side by side"))
        row = [f"{slow:.2f}", f"{one:.2f}", f"{slow / one:.0f}"]
        row += [f"{stacked:.3f}", f"{slow / stacked:.0f}"]
        training.append([NAMES["decoders"][found["model"]], str(found["k"]), *row])
    nll = [["decoder", "tutorial style, ms", "tvae_core, ms", "times faster"]]
    for found in bench["seconds_per_nll"]:
        slow, fast = 1e3 * found["tutorial"], 1e3 * found["tvae_core"]
        nll.append(
            [NAMES["decoders"][found["model"]], f"{slow:.2f}", f"{fast:.2f}", f"{slow / fast:.1f}"]
        )
    where = f"{bench['device']}. Medians of {bench['repeats']}."
    return {
        "gpu_training": Table(f"Seconds for an epoch of 60,000 images. {where}", training, []),
        "gpu_nll": Table(f"Milliseconds for the NLL-5,000 of an image. {where}", nll, []),
        "gpu_grid": gpu_grid_table(),
    }


def gpu_grid_table() -> Table:
    """What each recipe has taken on a GPU, from the records of the runs that it has trained."""
    rows = [["recipe", "GPU", "workers", "runs", "training", "NLL and all else", "test images"]]
    rows[0] += ["a worker's share"]
    for recipe in ("study", "modern", "long"):
        on_all = [on_a_gpu(whole(name)) for name in RECIPES[recipe]]
        # Those measured on all test images, if it is as many of each model.
        complete = len({len(found) for found in on_all}) == 1 and on_all[0]
        each = on_all if complete else [on_a_gpu(seeds_of(name)) for name in RECIPES[recipe]]
        trained = [record for found in each for record in found]
        ((device, workers),) = {device_of(record) for record in trained}
        train = sum(record.seconds["train"] for record in trained) / 60
        evaluate = sum(record.seconds["evaluate"] for record in trained) / 60
        (n,) = {record.data["test"]["n"] for record in trained}
        row = [recipe, device, str(workers), str(len(trained))]
        row += [f"{train:.1f}", f"{evaluate:.1f}", f"{n:,}", f"{(train + evaluate) / workers:.1f}"]
        rows.append(row)
    return Table("What a recipe's runs took on one GPU, in minutes of all its workers.", rows, [])


def on_a_gpu(seeds: Seeds | None) -> list[RunRecord]:
    return seeds.on_a_gpu() if seeds else []


def one(name: str) -> Table:
    return {**speed_tables(), **gpu_speed_tables()}[name]


TABLES = {
    name: functools.partial(one, name)
    for name in (
        "speed_training",
        "speed_nll",
        "speed_memory",
        "gpu_training",
        "gpu_nll",
        "gpu_grid",
    )
}
