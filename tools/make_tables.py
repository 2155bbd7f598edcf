"""Write what the run records determine.

That is results/*.csv, what stands in README.md and book/*.md between <!-- name --> and
<!-- /name -->, and the package's summary of all seeds.

python tools/make_tables.py            # write
python tools/make_tables.py --check    # change nothing; exit with 1 if something would change
"""

import argparse
import csv
import functools
import inspect
import io
import itertools
import json
import math
import re
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from bench import SIDE_BY_SIDE

from tvae_core import models
from tvae_core.evaluation import ACTIVE, mean_se
from tvae_core.experiments import PROFILES, code_of
from tvae_core.measure import columns
from tvae_core.recipes import DECODERS, HELD_OUT, RECIPES, RUNS
from tvae_core.records import RunRecord, load_record
from tvae_core.results import MEASURED, SEEDS, VALIDATION
from tvae_core.study import PRINTED, nll_of

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results"
NAMES = {"plain": "plain VAE", "affine": "affine", "tps": "thin-plate spline"}
UNKNOWN = "\N{EN DASH}"
INFORMATIVE = 0.1  # nats, the least mean KL of a latent that counts as telling something
Rows = list[list[str]]


# Records of all seeds.


class Seeds(NamedTuple):
    """One run's records on the same test images, a seed each."""

    records: Sequence[RunRecord]

    def of(self, field: str) -> list[float]:
        """A mean over test images, for each seed."""
        return [getattr(record, field)[0] for record in self.records]

    def active(self) -> list[int]:
        """The number of active latents, for each seed."""
        return [sum(v > ACTIVE for v in r.variance_per_latent) for r in self.records]

    def informative(self) -> list[int]:
        """The number of latents that tell more than a tenth of a nat, for each seed."""
        return [sum(kl > INFORMATIVE for kl in r.kl_per_latent) for r in self.records]

    def per_image(self, field: str) -> torch.Tensor:
        """(S, N) values of test images."""
        return torch.tensor([getattr(r, f"{field}_per_image") for r in self.records]).double()


@functools.cache
def records(folder: str) -> dict[str, dict[int, Seeds]]:
    """What results/FOLDER holds: by run and number of test images."""
    found: dict[str, dict[int, list[RunRecord]]] = {}
    for path in sorted((RESULTS / folder).glob("*.json")):
        record = load_record(path)
        by_size = found.setdefault(record.name, {})
        by_size.setdefault(record.data["test"]["n"], []).append(record)
    return {
        name: {n: Seeds(sorted(group, key=lambda r: r.seed)) for n, group in sizes.items()}
        for name, sizes in found.items()
    }


def seeds_of(name: str, folder: str = "records") -> Seeds | None:
    """A run's records on the test images that all its seeds have in common."""
    by_size = records(folder).get(name)
    return by_size[min(by_size)] if by_size else None


def whole(name: str) -> Seeds | None:
    """A run's records on all 10,000 test images, of the seeds that have one."""
    return records("records").get(name, {}).get(10_000)


# Numbers as text.


def over_seeds(name: str, field: str = "nll", folder: str = "records") -> str:
    """Mean ± standard deviation over seeds."""
    seeds = seeds_of(name, folder)
    return UNKNOWN if seeds is None else mean_sd(seeds.of(field))


def mean_sd(values: Sequence[float]) -> str:
    """The same of some values."""
    if len(values) == 1:
        return f"{values[0]:.2f}"
    return f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f}"


def gap(a: str, b: str, field: str = "nll", folder: str = "records") -> tuple[float, float] | None:
    """a - b on the same test images, and its standard error over both seeds and images."""
    first, second = seeds_of(a, folder), seeds_of(b, folder)
    if first is None or second is None:
        return None
    _check_same_images(first, second)
    gaps = first.per_image(field).mean(0) - second.per_image(field).mean(0)
    mean, images = mean_se(gaps)
    runs = [s.of(field) for s in (first, second)]
    seeds = sum(statistics.variance(v) / len(v) if len(v) > 1 else 0 for v in runs)
    return mean, (images**2 + seeds) ** 0.5


def _check_same_images(*runs: Seeds) -> None:
    tested = {record.data["test"]["sha256"] for seeds in runs for record in seeds.records}
    names = sorted({record.name for seeds in runs for record in seeds.records})
    assert len(tested) <= 1, f"{' and '.join(names)} were measured on different images"


def difference(a: str, b: str, field: str = "nll", folder: str = "records") -> str:
    """The same as text."""
    found = gap(a, b, field, folder)
    return f"{found[0]:+.2f} ± {found[1]:.2f}" if found else UNKNOWN


def printed_nll(name: str) -> str:
    """The study's NLL of a run."""
    value = nll_of(name)
    return UNKNOWN if value is None else f"{value:.2f}"


def plus_minus(value: Sequence[float]) -> str:
    mean, standard_error = value
    return f"{mean:.2f} ± {standard_error:.2f}"


# The tables: a caption, and rows of which the first is the head.


class Table(NamedTuple):
    caption: str
    rows: Rows
    runs: list[str]  # whose records it reads
    folder: str = "records"
    over: str = "Mean over {} ± their standard deviation."  # how it deals with the seeds

    @property
    def full_caption(self) -> str:
        """With the number of seeds, and a word on records that are older than the code."""
        return " ".join([self.caption, *filter(None, (self._seeds(), self._stale()))])

    @property
    def any_record(self) -> bool:
        return len(self.rows) > 1 and (not self.runs or bool(self._read()))

    def _read(self) -> dict[str, Seeds]:
        found = {name: seeds_of(name, self.folder) for name in self.runs}
        return {name: seeds for name, seeds in found.items() if seeds}

    def _seeds(self) -> str:
        counts = sorted({len(seeds.records) for seeds in self._read().values()})
        if not counts:
            return ""
        least, most = counts[0], counts[-1]
        if most == 1 and self.over:
            return "One seed."
        return self.over.format(f"{least} to {most} seeds" if least < most else f"{most} seeds")

    def _stale(self) -> str:
        read = self._read()
        old = [
            f"`{name}`"
            for name, seeds in read.items()
            if any(r.code_hash not in current_hashes(name) for r in seeds.records)
        ]
        if not old:
            return ""
        which = "" if len(old) == len(read) else f" {', '.join(old)}"
        return f"Trained by code older than the present one{':' * bool(which)}{which}."


@functools.cache
def current_hashes(name: str) -> set[str]:
    return {code_of(RUNS[name], stacked) for stacked in (False, True)}


def against_study() -> tuple[Table, Table]:
    """The study's gray tables, and its table of k = 5, beside ours."""
    gray = [["decoder", "recon, study", "recon, ours", "NLL, study", "NLL, ours"]]
    five = [["decoder", "IWAE, study", "IWAE, ours", "multi-sample, study", "multi-sample, ours"]]
    for model, row in PRINTED.items():
        run = f"{model}-vae"
        ours = [over_seeds(run, "recon"), over_seeds(run)]
        gray.append([NAMES[model], f"{row.recon:.2f}", ours[0], printed_nll(run), ours[1]])
        five.append([NAMES[model]])
        for name in (f"{model}-iwae5", f"{model}-multi5"):
            five[-1] += [printed_nll(name), over_seeds(name)]
    return (
        Table(
            "Reconstruction loss and NLL on gray pixels, one draw.",
            gray,
            [f"{m}-vae" for m in DECODERS],
        ),
        Table(
            "NLL on binary pixels, five draws.",
            five,
            [f"{m}-{o}5" for o in ("iwae", "multi") for m in DECODERS],
        ),
    )


OBJECTIVES = {
    "vae-binarized": "VAE, k = 1",
    "multi5": "multi-sample VAE, k = 5",
    "iwae5": "IWAE, k = 5",
}
BETTER = ("modern", "long")
PAIRS = (("affine", "plain"), ("tps", "plain"), ("tps", "affine"))


def run_name(model: str, objective: str, recipe: str = "") -> str:
    """Of one of OBJECTIVES on the study's recipe, or on one of BETTER (all on binary pixels)."""
    if not recipe:
        return f"{model}-{objective}"
    return f"{model}-{objective.removesuffix('-binarized')}-{recipe}"


def budget(recipe: str) -> str:
    """How long the runs of a recipe train."""
    config = RUNS[run_name("plain", "iwae5", recipe)]
    return f"{config.epochs(PROFILES['paper'].epochs)} epochs"


def gaps_table(caption: str, trained: dict[str, Sequence[str]]) -> Table:
    """What the warps gain: paired differences of NLL between decoders, each of DECODERS a run."""
    rows = [["trained with", *(f"{NAMES[a]} less {NAMES[b]}" for a, b in PAIRS)]]
    runs = []
    for words, names in trained.items():
        run = dict(zip(DECODERS, names, strict=True))
        cells = [difference(run[a], run[b]) for a, b in PAIRS]
        if set(cells) != {UNKNOWN}:
            rows.append([words, *cells])
            runs += names
    return Table(
        f"{caption} ± is the standard error over seeds and images.", rows, runs, over="{}."
    )


def study_gaps() -> Table:
    """On the study's recipe."""
    kinds = {"vae": "VAE, k = 1, gray", **OBJECTIVES}
    return gaps_table(
        "What a warp gains on the study's recipe, in NLL on the same images.",
        {words: [run_name(m, o) for m in DECODERS] for o, words in kinds.items()},
    )


def better_gaps() -> Table:
    """On the better one."""
    return gaps_table(
        "What a warp gains on the modern recipe, in NLL on the same images.",
        {
            f"{words}, {budget(recipe)}": [run_name(m, o, recipe) for m in DECODERS]
            for recipe in BETTER
            for o, words in OBJECTIVES.items()
        },
    )


_WARPED = inspect.signature(models.WarpedDecoder).parameters
# The options of a run, and what each is where a config leaves it to the study's.
OPTIONS = {
    "batch_size": ("images in a batch", None),
    "optimizer": ("optimizer", None),
    "peak": ("highest learning rate", 1),
    "warm_up": ("epochs of warm-up", 0),
    "start": ("first bias of the pixels", "near 0"),
    "estimator": ("gradient", "reparameterized"),
    "resample": ("what is warped", _WARPED["resample"].default),
    "padding": ("outside the frame", _WARPED["padding"].default),
    "pose_std": ("deviation of the first W", _WARPED["pose_std"].default),
}
SAID = {
    "adadelta": "AdaDelta, falling rate",
    "adam-one-cycle": "Adam, one cycle",
    "mean": "the mean image's",
    "dreg": "DReG",
    "probs": "probabilities",
    "zeros": "paper",
}


def settings_table() -> Table:
    """The two recipes beside each other, as they train the affine IWAE."""
    recipes = [RUNS[run_name("affine", "iwae5", recipe)] for recipe in ("", "modern")]
    rows = [["choice", "study", "modern"]]
    for option, (words, default) in OPTIONS.items():
        given = (getattr(config, option) for config in recipes)
        values = (default if value is None else value for value in given)
        rows.append([words, *(SAID.get(value, str(value)) for value in values)])
    return Table(
        "The two recipes as run here, on binary pixels that are drawn anew each time.", rows, []
    )


def recipes_table() -> Table:
    """The better recipe beside the study's, and the study's own numbers."""
    rows = [["trained with", "decoder", "study", "its recipe, ours"]]
    rows[0] += [f"modern, {budget(recipe)}" for recipe in BETTER]
    runs = []
    for objective, words in OBJECTIVES.items():
        for model in DECODERS:
            names = [run_name(model, objective, recipe) for recipe in ("", *BETTER)]
            rows.append([words, NAMES[model], printed_nll(names[0]), *map(over_seeds, names)])
            runs += names
    return Table("NLL on binary pixels: the study's recipe, and the modern one.", rows, runs)


def annealed_table() -> Table:
    """The gap between decoders, after AIS on a few images has corrected the NLL of many.

    Importance sampling, on all test images, has the small error over images; what AIS takes off,
    on a few of them, varies little between images.
    """
    rows = [["run", "NLL", "too high by", "corrected", "corrected, less plain"]]
    runs, images = [], set()
    for objective, recipe in itertools.product(("iwae5", "multi5"), ("", *BETTER)):
        plain = None
        for model in DECODERS:
            name = run_name(model, objective, recipe)
            path, seeds = MEASURED / f"ais-{name}.json", seeds_of(name)
            if not path.exists() or seeds is None:
                continue
            runs.append(name)
            record = json.loads(path.read_text())
            images.add(record["data"]["n"])
            by = columns(record)
            excess = by["is_nll"] - by["ais_nll"]
            corrected = statistics.mean(seeds.of("nll")) - excess.mean()
            row = [f"`{name}`", over_seeds(name), plus_minus(mean_se(excess)), f"{corrected:.2f}"]
            if model == "plain":
                plain = name, excess
                row.append("")
            elif plain and (sampled := gap(name, plain[0])):
                more, se_more = mean_se(excess - plain[1])
                row.append(f"{sampled[0] - more:+.2f} ± {math.hypot(sampled[1], se_more):.2f}")
            rows.append(row)
    return Table(
        "What a warp gains in training with k = 5. The NLL by 5,000 importance samples is an "
        "upper estimate; by how much it is too high AIS has found on "
        f"{' or '.join(map(str, sorted(images)))} images, for seed 0. ± is the standard error over "
        "seeds and images, and with the NLL the standard deviation over seeds.",
        rows,
        runs,
        over="{}.",
    )


def models_table() -> Table:
    """The three networks."""
    rows = [["decoder", "latents z", "latents u", "parameters"]]
    for name in DECODERS:
        model = models.build(name)
        parameters = sum(p.numel() for p in model.parameters())
        rows.append([NAMES[name], str(model.dim_z), str(model.dim_u), f"{parameters:,}"])
    return Table("The three models, encoder and decoder together.", rows, [])


def draws_table() -> Table:
    """The plain model on binary pixels with 1, 5 and 50 draws; with 1, the two are the same."""
    rows = [["draws k", "IWAE", "multi-sample VAE", "epochs"]]
    for k in (1, 5, 50):
        names = [f"plain-{o}{k}" for o in (("multi", "multi") if k == 1 else ("iwae", "multi"))]
        seeds = seeds_of(names[0])
        epochs = str(seeds.records[0].config["epochs"]) if seeds else UNKNOWN
        rows.append([str(k), *(over_seeds(name) for name in names), epochs])
    runs = [f"plain-{o}{k}" for k in (1, 5, 50) for o in ("iwae", "multi") if (o, k) != ("iwae", 1)]
    return Table(
        "NLL of the plain VAE against the number of draws in training.",
        rows,
        runs,
    )


def whole_table() -> Table:
    """On all test images."""
    rows = [["run", "seeds", "recon", "KL(z)", "KL(u)", "NLL"]]
    rows[0] += ["s.e. over images", "Monte-Carlo s.e.", "median ESS"]
    measured = {name: seeds for name in RUNS if (seeds := whole(name))}
    for name, seeds in measured.items():
        row = [mean_sd(seeds.of(field)) for field in ("recon", "kl_z", "kl_u", "nll")]
        first = seeds.records[0]
        row += [f"{first.nll[1]:.2f}", f"{first.nll_mc_se:.3f}", f"{first.ess_median:.0f}"]
        rows.append([f"`{name}`", str(len(seeds.records)), *row])
    caption = (
        "On all 10,000 test images: mean over seeds ± their standard deviation. The last three "
        "columns are those of the NLL of one seed."
    )
    return Table(caption, rows, list(measured), over="")


def runs_table() -> Table:
    """Every run: its spread, its errors, what it took, and on what."""
    rows = [["run", "seeds", "recon", "NLL", "s.e. over images", "Monte-Carlo s.e."]]
    rows[0] += ["epochs", "minutes", "machine"]
    runs = [name for name in RUNS if seeds_of(name)]
    for name in runs:
        seeds = seeds_of(name)
        assert seeds is not None
        first = seeds.records[0]
        alike = [r.seconds["train"] for r in seeds.records if r.device == first.device]
        minutes = statistics.median(alike) / 60
        row = [str(len(seeds.records)), over_seeds(name, "recon"), over_seeds(name)]
        row += [f"{first.nll[1]:.2f}", f"{first.nll_mc_se:.3f}", str(first.config["epochs"])]
        rows.append([f"`{name}`", *row, f"{minutes:.0f}", first.device])
    return Table(
        "Every run. Both standard errors, the minutes and the machine are those of its first seed.",
        rows,
        runs,
    )


def protocol_table() -> Table:
    """What all records share; a value that differs between them is listed in full."""
    runs = [name for name in RUNS if seeds_of(name)]
    read = [
        r for name in runs for seeds in records("records")[name].values() for r in seeds.records
    ]

    def values(value: Callable[[RunRecord], object]) -> str:
        return ", ".join(sorted({str(value(record)) for record in read}))

    rows = [
        ["what", "value"],
        ["training images", values(lambda r: f"{r.data['train']['n']:,}")],
        ["test images", values(lambda r: f"{r.data['test']['n']:,}")],
        ["importance samples for each image", values(lambda r: f"{r.nll_ks[-1]:,}")],
        ["seeds", values(lambda r: r.seed)],
        ["PyTorch", values(lambda r: r.versions["torch"])],
        ["Python", values(lambda r: r.versions["python"])],
    ]
    return Table("What the runs share.", rows, runs, over="{}.")


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
                rows.append([machine, NAMES[model], *map(str, others)])
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
        training.append([NAMES[found["model"]], str(found["k"]), *row])
    nll = [["decoder", "tutorial style, ms", "tvae_core, ms", "times faster"]]
    for found in bench["seconds_per_nll"]:
        slow, fast = 1e3 * found["tutorial"], 1e3 * found["tvae_core"]
        nll.append([NAMES[found["model"]], f"{slow:.2f}", f"{fast:.2f}", f"{slow / fast:.1f}"])
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
        (device,) = {record.device for record in trained}
        shared = re.search(r"shared by (\d+) workers", device)
        workers = int(shared[1]) if shared else 1
        train = sum(record.seconds["train"] for record in trained) / 60
        evaluate = sum(record.seconds["evaluate"] for record in trained) / 60
        (n,) = {record.data["test"]["n"] for record in trained}
        row = [recipe, device.partition(",")[0], str(workers), str(len(trained))]
        row += [f"{train:.1f}", f"{evaluate:.1f}", f"{n:,}", f"{(train + evaluate) / workers:.1f}"]
        rows.append(row)
    return Table("What a recipe's runs took on one GPU, in minutes of all its workers.", rows, [])


def on_a_gpu(seeds: Seeds | None) -> list[RunRecord]:
    """The records of those seeds that a GPU has trained."""
    return [r for r in seeds.records if not r.device.startswith("CPU")] if seeds else []


# What an ablation takes back, in the order of the table.
CHOICES = {
    "adadelta": "AdaDelta and its decay, as in the study",
    "constant-rate": "Adam at a constant 0.001",
    "lower-peak": "one cycle with its peak at 0.001",
    "no-warm-up": "no warm-up of the KL",
    "zero-start": "decoder bias not at the mean image",
    "reparameterized": "reparameterized gradient, not DReG",
    "probs": "probabilities warped, not logits",
    "border": "border padding",
    "small-pose": "first W ten times smaller",
    "large-pose": "first W three times larger",
}


def ablation_table() -> Table:
    """What each choice of the modern recipe is worth."""
    rows = [["the modern recipe, but", *(NAMES[model] for model in ("plain", "affine"))]]
    runs = list(RECIPES["ablation"])
    best = [
        over_seeds(f"{model}-iwae5-modern", folder="validation") for model in ("plain", "affine")
    ]
    rows.append(["nothing: its NLL", *best])
    for what, words in CHOICES.items():
        pairs = [(f"{m}-iwae5-{what}", f"{m}-iwae5-modern") for m in ("plain", "affine")]
        cells = [difference(*p, folder="validation") if p[0] in RUNS else "" for p in pairs]
        rows.append([words, *cells])
    return Table(
        "What each choice is worth: NLL-1,000 on 1,000 held-out training images after 15 epochs, "
        "less that of the modern recipe, ± the standard error over seeds and images.",
        rows,
        runs,
        folder="validation",
        over="{}.",
    )


# What is trained with 16 draws an image; the table's rows, the first its base.
WAYS = {
    "iwae16-reparameterized": "IWAE",
    "iwae16-dreg": "IWAE, DReG",
    "miwae16-reparameterized": "MIWAE(4, 4)",
    "ciwae16-reparameterized": "CIWAE(0.5)",
    "piwae16-reparameterized": "PIWAE(4, 4)",
    "multi16-stl": "ELBO, STL",
}


def gradients_table() -> Table:
    """What another bound or gradient is worth, where all have 16 draws."""
    rows = [["trained by"]]
    for model in ("plain", "affine"):
        rows[0] += [f"{NAMES[model]}, NLL", f"{NAMES[model]}, less IWAE"]
    base = next(iter(WAYS))
    for way, words in WAYS.items():
        row = [words]
        for model in ("plain", "affine"):
            pair = f"{model}-{way}", f"{model}-{base}"
            row.append(over_seeds(pair[0], folder="validation"))
            row.append("" if way == base else difference(*pair, folder="validation"))
        rows.append(row)
    return Table(
        "Six ways to spend 16 draws an image in training: NLL-1,000 on 1,000 held-out training "
        "images after 15 epochs of the modern recipe, and what is left of it on taking away the "
        "IWAE's on the same images, ± the standard error over seeds and images.",
        rows,
        list(RECIPES["gradients"]),
        folder="validation",
    )


def tables() -> dict[str, Table]:
    gray, five = against_study()
    made = {
        "models": models_table(),
        "gray": gray,
        "five_draws": five,
        "gaps": study_gaps(),
        "settings": settings_table(),
        "recipes": recipes_table(),
        "better_gaps": better_gaps(),
        "annealed": annealed_table(),
        "ablation": ablation_table(),
        "gradients": gradients_table(),
        "draws": draws_table(),
        "whole": whole_table(),
        "runs": runs_table(),
        "protocol": protocol_table(),
        **speed_tables(),
        **gpu_speed_tables(),
    }
    return {name: table for name, table in made.items() if table.any_record}


# Files.


def as_csv(rows: Rows) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def as_markdown(table: Table) -> str:
    head, *body = (f"| {' | '.join(row)} |" for row in table.rows)
    return "\n".join([head, "| --- " * len(table.rows[0]) + "|", *body, "", table.full_caption])


def as_directive(name: str, table: Table) -> str:
    lines = [
        f"```{{csv-table}} {table.full_caption}",
        f":name: tab-{name.replace('_', '-')}",
        f":class: numbers{' wide' if len(table.rows[0]) > 5 else ''}",
        f":file: ../results/{name}.csv",
        ":header-rows: 1",
        "```",
    ]
    return "\n".join(lines)


def seeds_summary() -> str:
    """What the package tells about other seeds than the one it ships."""
    found = {name: seeds for name in RUNS if (seeds := seeds_of(name))}
    summary = {
        name: {
            "recon": seeds.of("recon"),
            "nll": seeds.of("nll"),
            "active": seeds.active(),
            "informative": seeds.informative(),
        }
        for name, seeds in found.items()
    }
    return json.dumps(summary, indent=1) + "\n"


# What the runs of a recipe are held against.
BASES = {"ablation": "iwae5-modern", "gradients": next(iter(WAYS))}


def validation_summary() -> str:
    """What the package tells about the runs on held-out training images."""
    summary = {}
    for recipe in HELD_OUT:
        for name, config in RECIPES[recipe].items():
            seeds = seeds_of(name, "validation")
            if seeds is None:
                continue
            base = f"{config.model}-{BASES[recipe]}"
            record = seeds.records[0]
            summary[name] = {
                "nll": seeds.of("nll"),
                "base": base,
                "gap": gap(name, base, folder="validation") if name != base else None,
                "epochs": record.config["epochs"],
                "samples": record.nll_ks[-1],
                "images": record.data["test"]["n"],
            }
    return json.dumps(summary, indent=1) + "\n"


BLOCK = re.compile(r"(<!-- (\w+) -->\n).*?(<!-- /\2 -->)", re.DOTALL)


def outputs() -> dict[Path, str]:
    """The text of each file that the records determine."""
    made = tables()
    texts = {RESULTS / f"{name}.csv": as_csv(table.rows) for name, table in made.items()}
    texts |= {SEEDS: seeds_summary(), VALIDATION: validation_summary()}
    for page in (ROOT / "README.md", *(ROOT / "book").glob("*.md")):

        def block(match: re.Match[str], readme: bool = page.name == "README.md") -> str:
            name = match[2]
            if name not in made:
                return match[0]
            text = as_markdown(made[name]) if readme else as_directive(name, made[name])
            return f"{match[1]}{text}\n{match[3]}"

        texts[page] = BLOCK.sub(block, page.read_text())
    return texts


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="change nothing, only compare")
    check = parser.parse_args().check
    texts = outputs()
    stale = [p for p, text in texts.items() if not p.exists() or p.read_text() != text]
    for path in stale:
        print(f"{path.relative_to(ROOT)}: {'differs from the records' if check else 'written'}")
        if not check:
            path.parent.mkdir(exist_ok=True)
            path.write_text(texts[path])
    if check and stale:
        sys.exit("run: make tables")


if __name__ == "__main__":
    main()
