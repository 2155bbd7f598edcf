"""Numbers of the records that several pages speak of."""

import itertools
import math
import statistics
from collections.abc import Iterable

import torch
from scipy import stats
from tables import base, own, speed, training

from tvae_core.evaluation import Estimate, mean_se
from tvae_core.experiments import PROFILES, measure, results, where
from tvae_core.experiments.configs import DECODERS, RUNS
from tvae_core.experiments.records import RunRecord
from tvae_core.experiments.results import record_of
from tvae_core.experiments.study import PRINTED

from .page import Page

VAES = tuple(f"{model}-vae" for model in DECODERS)
IWAES = tuple(f"{model}-iwae5" for model in DECODERS)
FIVE = tuple(itertools.product(DECODERS, ("iwae5", "multi5")))  # with five draws
BETTER = ("modern", "long")


def mean(name: str, field: str = "nll") -> float:
    return statistics.mean(results.over_seeds(name, field))


def sd(name: str) -> float:
    return statistics.stdev(results.over_seeds(name))


def ahead(a: str, b: str, field: str = "nll") -> bool:
    """Whether run a is lower than run b by more than the luck of training explains."""
    gap = results.gap_over_seeds(a, b, field)
    return gap.mean < 0 and gap.beyond_luck


def worth(n: int, turn: int, model: str) -> float:
    """How many times its images the plain model needs to be level."""
    found = where.worth(n, turn, model)
    assert found is not None
    return found.factor


def worths(model: str, sizes: Iterable[int] = where.SIZES) -> list[float]:
    """The same for all that is measured, of some numbers of images and all ranges of turns."""
    found = [where.worth(n, turn, model) for n in sizes for turn in where.TURNS]
    return [each.factor for each in found if each is not None]


def straightened(page: Page, *sentences: str) -> None:
    """Sentences that say what chapter 11 found: with that encoder, warps are ahead by two nats."""
    leads = [
        -results.gap_over_seeds(f"{m}-straight-iwae5-modern", "plain-iwae5-modern").mean
        for m in ("affine", "tps")
    ]
    behind = [ahead("plain-iwae5-modern", f"{m}-iwae5-modern") for m in ("affine", "tps")]
    for sentence in sentences:
        page.says(sentence, all(2 < lead < 3 for lead in leads), all(behind))


def fastest_epoch(run: str) -> float:
    """Seconds on a CPU, which trained the first three seeds, where it had least other work."""
    return min(results.over_seeds(run, "seconds")[:3])


def by_ais(name: str) -> tuple[float, float]:
    """How far a warped model is behind the plain one by AIS, and the standard error."""
    rows = {row[0]: row[-1].split(" ± ") for row in training.annealed_table().rows[1:]}
    nats, error = map(float, rows[f"`{name}`"])
    return nats, error


def spans(numbers: Iterable[float], digits: int) -> str:
    """The least and the greatest of some numbers, as the page writes them."""
    found = list(numbers)
    return f"{min(found):.{digits}f} to {max(found):.{digits}f}"


def on_a_gpu(seeds: base.Seeds) -> list[RunRecord]:
    """The records of the seeds that were trained on a GPU."""
    return [record for record in seeds.records if record.machine.device != "CPU"]


def times_faster(measured: dict, kind: str, way: str = "tvae_core") -> list[float]:
    """How many times as fast as tutorial style, for each decoder and number of draws."""
    return [row["tutorial"] / row[way] for row in measured[kind]]


def on_h100(*names: str) -> float:
    """The seconds that runs of the profile `paper` take one by one, without compiling."""
    epoch = {
        (r["decoder"], r["k"]): r["tvae_core"] for r in speed.benchmark("gpu")["seconds_per_epoch"]
    }
    runs = [RUNS[name] for name in names]
    return sum(epoch[c.model, c.k] * c.epochs(PROFILES["paper"].epochs) for c in runs)


def in_reader(*names: str) -> float:
    """The minutes that runs of the profile `reader` take on a CPU, by the records of seed 0."""
    epochs = [RUNS[name].epochs(PROFILES["reader"].epochs) for name in names]
    took = [record_of(name).seconds["train"] / len(record_of(name).curves) for name in names]
    return sum(map(lambda n, seconds: n * seconds / 60, epochs, took))


def too_high(name: str) -> float:
    """By how many nats importance sampling lies above AIS."""
    by = measure.columns(results.measured("ais", name))
    return (by["is_nll"] - by["ais_nll"]).mean().item()


def warps_are_too_high_by_more() -> list[bool]:
    """Whether that is more for each warped model with five draws than for the plain one."""
    return [
        too_high(f"{m}-{o}{recipe}") > too_high(f"plain-{o}{recipe}")
        for m, o in FIVE
        for recipe in ("", "-long")
        if m != "plain"
    ]


def off_by(what: str, pictures: str, model: str) -> float:
    """The median error of the turn in degrees, the mean over seeds: of "moves" or of "poses"."""
    return statistics.fmean(where.scored(pictures, model, what, "degrees", "error"))


def mixed_gap() -> Estimate:
    """How far the modern affine IWAE is behind the plain one, with a mixture of encoders for each."""
    affine, plain = (
        measure.columns(results.measured("mixture", f"{m}-iwae5-modern"))["mixed_nll"]
        for m in ("affine", "plain")
    )
    return mean_se(affine - plain)


def new_turn(settings: str) -> float:
    """The median error of the turn of new letters in `own_settings`, the mean over seeds."""
    return statistics.fmean(own.over_seeds(settings, "new", "degrees"))


def per_image(name: str) -> torch.Tensor:
    return torch.tensor(record_of(name).nll_per_image).double()


def paired(a: str, b: str) -> tuple[float, float]:
    """The gap between the runs with seed 0, and its standard error over images."""
    difference = per_image(a) - per_image(b)
    return difference.mean().item(), (difference.std() / math.sqrt(len(difference))).item()


def at(record: RunRecord) -> dict[int, float]:
    return dict(zip(record.nll_ks, record.nll_at, strict=True))


def over_seeds_at(name: str, k: int) -> list[float]:
    """The NLL of each run of a model from its first k importance samples."""
    return [at(record)[k] for record in base.seeds_of(name).records]


def beyond_luck(a: list[float], b: list[float]) -> bool:
    return bool(stats.ttest_ind(a, b, equal_var=False).pvalue < 0.05)


def falls_and_flattens(values: list[float]) -> bool:
    """Whether a curve falls by more in its first tenth than in all the rest."""
    start, tenth, end = values[0], values[len(values) // 10], values[-1]
    return start - tenth > tenth - end > 0


def reproduced(model: str) -> list[bool]:
    """Whether the means over seeds come close to what the study prints."""
    name, printed = f"{model}-vae", PRINTED[model]
    return [abs(mean(name, "recon") - printed.recon) < 1.5, abs(mean(name) - printed.nll) < 2]


def time(page: Page, *names: str) -> None:
    page.says(
        "Training takes under half a minute on an H100, and up to two minutes in the `reader` profile, a shorter training, on a CPU.",
        on_h100(*names) < 25,
        0.5 < in_reader(*names) < 2.1,
    )
