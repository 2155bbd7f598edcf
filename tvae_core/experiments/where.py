"""What and where, measured: `python -m tvae_core.experiments.where`.

Models are trained on pictures whose poses are known, until the bound on held-out pictures no longer
rises, and scored on other pictures: do the inferred poses follow known moves, what can probes read
from z, from u and from the canonical images, and how likely are the pictures?

Each task has one record, FOLDER/NAME.json, which is written when the task is complete; a command
that was stopped goes on with the next task.

    python -m tvae_core.experiments.where scores-digits-affine-straight-0 map-2000-45-plain-0
    python -m tvae_core.experiments.where --group scores
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import Tensor

from tvae_core import ais, bounds, data, estimators, evaluation, models, training
from tvae_core.data import Batches, Images
from tvae_core.experiments import scoring
from tvae_core.experiments.acceleration import fast_arithmetic
from tvae_core.experiments.fingerprint import digest, in_double_precision, rounded
from tvae_core.experiments.records import Machine, versions
from tvae_core.experiments.results import SHIPPED
from tvae_core.experiments.runner import describe
from tvae_core.experiments.turns import QuarterTurns, modes
from tvae_core.models import VAE
from tvae_core.moved import CANVAS, FAMILIES, FAMILY, Moves, glyphs, moved
from tvae_core.runtime import pick_device, seeded, write_atomically

FOLDER = SHIPPED / "where"
STEPS = 100  # optimizer steps per round; the bound on held-out pictures is computed after each
ROUNDS = 60
PATIENCE = 6
HELD_OUT = 500
N_NLL = 500  # pictures whose NLL is estimated
RESAMPLED = 1_000  # times, for the range of a worth
ABSENT = "none"  # the model of the baseline without learning


@dataclass(frozen=True)
class Task:
    """One model, trained on `n_train` pictures of known pose and scored on `n_test` others."""

    pictures: str  # "digits", "glyphs" or "garments"
    # A model and its look, such as "affine-straight". "-turns" adds quarter turns, "-augmented"
    # shows it each training picture in `COPIES` poses, and "none" stands for the moments.
    model: str
    moves: Moves
    n_train: int
    n_test: int
    seed: int
    canvas: tuple[int, int] = CANVAS
    nll_samples: int = evaluation.NLL_SAMPLES
    probes: bool = True


@dataclass(frozen=True)
class Annealed(Task):
    """The same, with the NLL of its first test pictures by AIS as well."""

    annealed: int = 30


@dataclass(frozen=True)
class Modes(Task):
    """The posterior over the turn of upright digits, under a trained model with quarter turns."""

    distributions: int = 500
    chains: int = 16


WARPED = ("affine", "similarity", "tps")
MODELS = ("plain", *(name + look for name in WARPED for look in ("", "-straight")))
SIZES = (500, 2_000, 10_000, 59_500)  # the last with those held out: all of MNIST
TURNS = (0, 45, 90, 180)
CORNERS = (500, 10_000)  # images of the map
SEEDS = (0, 1, 2)
COPIES = 20  # poses of each training picture, for a model that is trained on augmented pictures
AUGMENTED = "plain-augmented"
MAPPED = ("plain", "affine", "affine-straight")
EVERY_WAY_MODELS = (
    ABSENT,
    "plain",
    "affine-straight",
    "affine-straight-turns",
    "similarity-straight",
    "similarity-straight-turns",
)


def _scores() -> dict[str, Task]:
    """Poses, probes and NLL of all models, on moved digits and on letters."""
    return {
        f"scores-{pictures}-{model}-{seed}": Task(pictures, model, FAMILY, 5_000, 2_000, seed)
        for seed in SEEDS
        for pictures in ("digits", "glyphs")
        for model in (ABSENT, *MODELS)
    }


def _map() -> dict[str, Task]:
    """How many images, in how many poses, before a warp pays?"""
    return {
        f"map-{n}-{turn}-{model}-{seed}": _cell_of_map("digits", n, turn, model, seed)
        for seed in SEEDS
        for n in SIZES
        for turn in TURNS
        for model in MAPPED
    }


def _cell_of_map(pictures: str, n: int, turn: float, model: str, seed: int) -> Task:
    moves = Moves(degrees=turn)
    return Task(pictures, model, moves, n, 500, seed, canvas=(28, 28), probes=False)


def _corners() -> dict[str, Task]:
    """The corners of the map once more, to see by AIS how much too high their NLLs are."""
    return {
        f"corner-{n}-{turn}-{model}-0": Annealed(**vars(_cell_of_map("digits", n, turn, model, 0)))
        for n in CORNERS
        for turn in (min(TURNS), max(TURNS))
        for model in ("plain", "affine-straight")
    }


def _turns() -> dict[str, Task]:
    """Digits that may lie in any direction, with and without a latent for the quarter turns.

    The "published" ones are also shifted, on a canvas like that of Nasiri & Bepler (2022).
    """
    kinds = {"turns": FAMILIES["turned"], "published": FAMILIES["scattered"]}
    return {
        f"{name}-{model}-{seed}": Task("digits", model, moves, 5_000, 2_000, seed, canvas)
        for name, (moves, canvas) in kinds.items()
        for seed in SEEDS
        for model in EVERY_WAY_MODELS
    }


def _augmented() -> dict[str, Task]:
    """The plain model, shown what a warp knows: every training picture in many poses."""
    return {
        f"scores-digits-{AUGMENTED}-{seed}": Task("digits", AUGMENTED, FAMILY, 5_000, 2_000, seed)
        for seed in SEEDS
    }


def _control() -> dict[str, Task]:
    """Garments, which lie alike in Fashion-MNIST, as the map's upright digits do not."""
    return {
        f"garments-{model}-{seed}": _cell_of_map("garments", 2_000, 0, model, seed)
        for seed in SEEDS
        for model in MAPPED
    }


def _modes() -> dict[str, Task]:
    """The posterior over the turn of one digit of each class."""
    task = vars(_turns()[TURNING_MODEL]) | {"n_test": 10}
    return {MODES: Modes(**task)}


SHIPPED_MODEL = "scores-digits-affine-straight-0"
ANGLE_MODEL = "scores-digits-similarity-straight-0"
TURNING_MODEL = "turns-similarity-straight-turns-0"
WITH_WEIGHTS = (SHIPPED_MODEL, ANGLE_MODEL, TURNING_MODEL)  # the models that chapter 12 looks at
MODES = "modes-0"
GROUPS: dict[str, dict[str, Task]] = {
    "scores": _scores(),
    "map": _map(),
    "corners": _corners(),
    "turns": _turns(),
    "augmented": _augmented(),
    "control": _control(),
    "modes": _modes(),
}
TASKS = {name: task for tasks in GROUPS.values() for name, task in tasks.items()}


@dataclass(frozen=True)
class Passes:
    """Batches of several passes over the images, so epochs are equally long with few images."""

    batches: Batches
    times: int

    def __len__(self) -> int:
        return self.times * len(self.batches)

    def __iter__(self) -> Iterator[Tensor]:
        for _ in range(self.times):
            yield from self.batches


class EarlyStop:
    """Ends training when the bound on held-out images no longer rises, and keeps the best weights.

    Pass it to `training.fit` as `after_epoch`, and call `restore` afterwards. The bound is IWAE 5,
    always from the same noise, so that it changes with the model alone.
    """

    def __init__(self, model: VAE, held_out: Images, patience: int = PATIENCE) -> None:
        self.model, self.x, self.patience = model, held_out.x, patience
        self.bounds: list[float] = []
        self.best: dict[str, Tensor] = {}

    def __call__(self, history: training.History) -> None:
        self.bounds.append(self.bound())
        if self.best_round == len(self.bounds):
            self.best = {name: t.clone() for name, t in self.model.state_dict().items()}
        history[-1]["stop"] = len(self.bounds) - self.best_round >= self.patience

    @torch.no_grad()
    def bound(self) -> float:
        """The mean bound of the held-out images, as the model is now."""
        with seeded(0):
            log_w = [self.model.particles(x, 5).log_w for x in self.x.split(500)]
        return bounds.iwae(torch.cat(log_w, 1)).mean().item()

    @property
    def best_round(self) -> int:
        """The first round with the highest bound, counted from 1."""
        return 1 + self.bounds.index(max(self.bounds))

    def restore(self) -> None:
        """Give the model the weights that it had after its best round."""
        self.model.load_state_dict(self.best)


def pictures(task: Task, split: str, seed: int) -> Images:
    """The pictures of a task, gray. The training split also holds those that are held out."""
    n = task.n_test if split == "test" else task.n_train + HELD_OUT
    if task.pictures == "glyphs":
        letters = 1 if split == "train" else 2
        return glyphs(n, task.moves, task.canvas, seed=letters, pose_seed=seed)
    images = data.load("fashion-mnist" if task.pictures == "garments" else "mnist", split)
    if n > len(images):
        raise ValueError(f"this task needs {n:,} pictures; {images.name!r} has {len(images):,}")
    if split == "train":  # as for glyphs, the same for every seed, which decides on the poses
        with seeded(0):
            images = images[torch.randperm(len(images))[:n]]
    else:
        images = images[torch.linspace(0, len(images) - 1, n).round().long()]
    found = moved(images, task.moves, task.canvas, seed=seed)
    if split == "test" or task.model != AUGMENTED:
        return found
    # The held-out pictures come last and stay as they are; the others are seen in more poses.
    more = [
        moved(images[:-HELD_OUT], task.moves, task.canvas, seed=1_000 * (seed + 1) + copy)
        for copy in range(1, COPIES)
    ]
    every = [each.pixels for each in (*more, found)]
    return Images(torch.cat(every), None, f"{found.name}, {COPIES} poses of each")


def build(task: Task) -> VAE:
    """The model of a task, before training."""
    name, *options = task.model.split("-")
    warped: dict[str, Any] = {}
    if name != "plain":
        warped = {"resample": "logits", "look": "straight" if "straight" in options else "once"}
    model = models.build(name, task.canvas, **warped)
    return QuarterTurns(model) if "turns" in options else model


def load(name: str = SHIPPED_MODEL) -> VAE:
    """The trained model of a task whose weights ship."""
    if name not in WITH_WEIGHTS:
        raise ValueError(f"{name!r} ships no weights; load one of {', '.join(WITH_WEIGHTS)}")
    model, weights = build(TASKS[name]), load_file(FOLDER / f"{name}.safetensors")
    model.load_state_dict({key: value.float() for key, value in weights.items()})
    return model.to(pick_device()).eval()


def train(
    task: Task, images: Images, rounds: int = ROUNDS
) -> tuple[VAE, EarlyStop, training.History]:
    """Train a task's model with Adam on IWAE 5; the last `HELD_OUT` images are held out.

    The gradient is DReG's, and pixels are redrawn at every visit.
    """
    held_out, rest = images[-HELD_OUT:], images[:-HELD_OUT]
    with seeded(task.seed):
        model = build(task).to(images.pixels.device)
        models.start_at_mean(model, rest.x.mean(0).cpu())
        batches = Batches(rest, min(100, len(rest)), "dynamic")
        stop = EarlyStop(model, data.binarize_fixed(held_out))
        history = training.fit(
            model,
            Passes(batches, max(1, STEPS // len(batches))),
            estimators.dreg,
            k=2 if isinstance(model, QuarterTurns) else 5,  # for each quarter turn
            epochs=rounds,
            optimizer=functools.partial(training.adam, peak=2e-3),
            warm_up=5,
            after_epoch=stop,
        )
    stop.restore()
    return model.eval(), stop, history


def run(task: Task, weights: Path | None = None) -> dict[str, Any]:
    """Train and score; returns a record's fields. The weights are stored, if they are asked for."""
    start, device = time.perf_counter(), pick_device()
    if isinstance(task, Modes):
        return {"modes": _found_modes(task), "seconds": time.perf_counter() - start}
    first, second = _pair(task, device)
    record: dict[str, Any] = {"data": {"test": describe(first)}}
    reader = scoring.MOMENTS
    if task.model != ABSENT:
        images = pictures(task, "train", task.seed).to(device)
        model, stop, history = train(task, images)
        reader = scoring.reader_of(model)
        if weights is not None:
            half = {key: value.half().cpu() for key, value in model.state_dict().items()}
            write_atomically(weights, save(half))
        record["data"]["train"] = describe(images)
        record["bounds"] = stop.bounds  # on the held-out images
        record["train_bounds"] = [row["bound"] for row in history]
        record["best_round"] = stop.best_round
        record["train_seconds"] = sum(row["seconds"] for row in history)
        seen = data.binarize_fixed(first)
        with seeded(task.seed):
            nll = evaluation.nll(model, seen[:N_NLL], task.nll_samples)
        record["nll"], record["ess"] = nll.nll.tolist(), nll.ess.median().item()
        if isinstance(task, Annealed):
            record["annealed"] = _annealed(model, seen[: task.annealed], task.seed)
    if reader.maps:
        record |= scoring.score_poses(reader, first, second)
        wide = dataclasses.replace(task, moves=dataclasses.replace(task.moves, degrees=90))
        record["wide"] = scoring.score_poses(reader, *_pair(wide, device))["moves"]
    if task.probes:
        record["contents"] = scoring.score_contents(reader, first)
    return {**record, "seconds": time.perf_counter() - start}


def _annealed(model: VAE, images: Images, seed: int) -> list[float]:
    """The NLL of each image by AIS, with a quarter of the chains and steps of `measure ais`."""
    with seeded(seed):
        found = ais.ais(model, images.x, n_distributions=500, chains=8, start="q")
    return [-log_p for log_p in found.log_p.tolist()]


def upright_digits() -> tuple[Images, Tensor]:
    """The bundled test digits, binary, and the rows of the first of each class."""
    digits = data.binarize_fixed(data.load("mini", "test").to(pick_device()))
    assert digits.labels is not None
    return digits, torch.stack([(digits.labels == c).nonzero()[0, 0] for c in range(10)])


def _found_modes(task: Modes) -> dict[str, Any]:
    """`turns.modes` of the first digit of each class; the mean pose is that of all of them."""
    model = load(TURNING_MODEL)
    assert isinstance(model, QuarterTurns)
    digits, rows = upright_digits()
    with seeded(task.seed):
        found = modes(model, digits[rows], digits, task.distributions, task.chains)
    return {name: value.tolist() for name, value in found._asdict().items()}


def _pair(task: Task, device: torch.device) -> list[Images]:
    """Test pictures, and the same things in other poses."""
    pair = [pictures(task, "test", seed + task.seed) for seed in (100, 200)]
    return [each.to(device) for each in pair]


def complete(name: str, folder: Path) -> dict[str, Any]:
    """The record of a task, made now if there is none.

    Raises:
        ValueError: there is one, but it is damaged or was made with other settings.
    """
    path, task = folder / f"{name}.json", TASKS[name]
    settings = json.loads(json.dumps(dataclasses.asdict(task)))  # with lists for tuples
    if path.exists():
        try:
            record: dict[str, Any] = json.loads(path.read_bytes())
            kept = record["task"]
        except (ValueError, KeyError) as error:
            raise ValueError(f"{path} is damaged; delete it") from error
        if kept != settings:
            raise ValueError(f"{path} was made with other settings; delete it")
        return record
    weights = folder / f"{name}.safetensors" if name in WITH_WEIGHTS else None
    measured = run(task, weights)
    record = {
        "name": name,
        "task": settings,
        **rounded(measured, 5),
        "fingerprint": fingerprint(),
        "versions": versions(),
        "machine": dataclasses.asdict(Machine.here(pick_device())),
    }
    write_atomically(path, (json.dumps(record, indent=None) + "\n").encode())
    return record


@functools.cache
def fingerprint() -> str:
    """How training and scoring behave, as 16 hexadecimal digits."""
    with in_double_precision():
        letters = glyphs(40, FAMILY, (12, 12), height=7.0, seed=0)
        other = glyphs(40, FAMILY, (12, 12), height=7.0, seed=0, pose_seed=1)
        found = []
        for look in ("once", "straight"):
            with seeded(0):
                model = models.build("affine", (12, 12), 3, hidden=(8,), look=look)
                models.start_at_mean(model, letters.x.mean(0))
                batches = Passes(Batches(letters[:30], 10, "dynamic"), 2)
                stop = EarlyStop(model, letters[30:], patience=1)
                training.fit(model, batches, estimators.dreg, k=2, epochs=3, after_epoch=stop)
                stop.restore()
            scored = scoring.score_poses(scoring.reader_of(model), letters, other)
            found.append([stop.bounds, scored])
        return digest(found)


@functools.cache  # a table asks for many numbers
def records(folder: Path = FOLDER) -> dict[str, dict[str, Any]]:
    """The records of all tasks, by name."""
    return {path.stem: json.loads(path.read_bytes()) for path in sorted(folder.glob("*.json"))}


def scored(pictures: str, model: str, *keys: str) -> list[Any]:
    """A field of the records of a group of scores, with one value per seed: its keys, in order."""
    return by_seed(f"scores-{pictures}-{model}", *keys)


def by_seed(task: str, *keys: str) -> list[Any]:
    """A field of a task's records, found by following `keys` in order; one value per seed."""
    names = [f"{task}-{seed}" for seed in SEEDS]
    found = [record for name, record in records().items() if name in names]
    return [functools.reduce(lambda part, key: part[key], keys, record) for record in found]


def mapped(n_train: int, turn: int, model: str) -> Tensor | None:
    """The NLL of each test picture on the map, (runs, pictures); None if it is not measured."""
    runs = by_seed(f"map-{n_train}-{turn}-{model}", "nll")
    return torch.tensor(runs, dtype=torch.float64) if runs else None


def lead(n_train: int, turn: int, model: str) -> evaluation.Estimate | None:
    """By how many nats a model is ahead of the plain one on the map, with its standard error.

    Runs with the same seed saw the same pictures in the same poses and are compared with each
    other. None if there is no such pair.
    """
    cells = (f"map-{n_train}-{turn}-{name}" for name in ("plain", model))
    pairs = ([records().get(f"{cell}-{seed}") for seed in SEEDS] for cell in cells)
    gaps = [
        torch.tensor(plain["nll"]).double() - torch.tensor(other["nll"]).double()
        for plain, other in zip(*pairs, strict=True)
        if plain and other
    ]
    return over_runs(torch.stack(gaps)) if gaps else None


def over_runs(nlls: Tensor) -> evaluation.Estimate:
    """The mean of (runs, pictures), with an error for both: other pictures, and other runs.

    The standard error over pictures is that of their means over the runs. That over runs joins it,
    in quadrature, if there are several.
    """
    pictures = evaluation.mean_se(nlls.mean(0))
    return evaluation.Estimate(pictures.mean, math.hypot(pictures.se, _se_over_runs(nlls)))


def _se_over_runs(nlls: Tensor) -> float:
    return evaluation.mean_se(nlls.mean(1)).se if len(nlls) > 1 else 0.0


def annealed(n_train: int, turn: int, model: str) -> tuple[Tensor, Tensor] | None:
    """The NLL of the same test pictures by importance sampling and by AIS, at a corner of the map.

    None where that is not measured.
    """
    record = records().get(f"corner-{n_train}-{turn}-{model}-0")
    if record is None:
        return None
    nll, by_ais = (torch.tensor(record[key], dtype=torch.float64) for key in ("nll", "annealed"))
    return nll[: len(by_ais)], by_ais


class Worth(NamedTuple):
    """How many times its training images the plain model needs to reach another model's NLL."""

    factor: float  # infinite beyond the most images that are on the map, 0 before the fewest
    low: float  # the 16th and the 84th percentile over resampled test pictures and runs
    high: float
    most: float  # the largest factor that the map can show

    def __str__(self) -> str:
        if math.isinf(self.factor):
            return f"more than {self.most:.0f}"
        high = "more" if math.isinf(self.high) else f"{self.high:.1f}"
        return f"{self.factor:.1f} ({self.low:.1f} to {high})"


def worth(n_train: int, turn: int, model: str) -> Worth | None:
    """What the warp of a model with `n_train` images is worth.

    None if that is not measured, or the plain model with more images.

    Between the sizes of the map, the plain model's mean NLL is interpolated over the logarithm of
    the number of images, by monotone cubics (Fritsch & Butland 1984): the curve bends, so straight
    lines would make the factors too large. Test pictures are resampled with replacement, the same
    ones for both models. Where there are several runs, each resampled mean also gets a normal error
    of the size that the runs have.
    """
    from scipy.interpolate import PchipInterpolator  # imported here because it takes half a second

    reached = mapped(n_train, turn, model)
    plain = {n: nll for n in SIZES if (nll := mapped(n, turn, "plain")) is not None}
    if reached is None or n_train >= max(plain, default=0):
        return None
    rng = torch.Generator().manual_seed(0)
    count = reached.shape[1]
    chosen = torch.randint(count, (RESAMPLED, count), generator=rng)

    def means(nlls: Tensor) -> np.ndarray:
        """First the mean that was measured, then those of the resampled pictures and runs."""
        noise = _se_over_runs(nlls) * torch.randn(RESAMPLED, generator=rng).double()
        return torch.cat([nlls.mean()[None], nlls.mean(0)[chosen].mean(1) + noise]).numpy()

    goals = means(reached)
    curves = PchipInterpolator(np.log([*plain]), [means(nlls) for nlls in plain.values()])
    logs = np.linspace(np.log(min(plain)), np.log(max(plain)), 1_001)
    needed = [
        np.interp(-goal, -curve, logs, left=-np.inf, right=np.inf)
        for goal, curve in zip(goals, curves(logs).T, strict=True)
    ]
    factors = np.exp(needed) / n_train
    low, high = np.quantile(factors[1:], [0.16, 0.84], method="nearest")
    return Worth(float(factors[0]), float(low), float(high), max(plain) / n_train)


@fast_arithmetic()
def main(arguments: Sequence[str] | None = None) -> None:
    """Complete the chosen tasks."""
    parser = argparse.ArgumentParser(
        prog="python -m tvae_core.experiments.where",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("tasks", nargs="*", metavar="TASK", help="tasks by name (default: all)")
    parser.add_argument("--group", choices=GROUPS, help="all tasks of a group")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="default: %(default)s")
    chosen = parser.parse_args(arguments)
    names = chosen.tasks or list(GROUPS[chosen.group] if chosen.group else TASKS)
    if unknown := [name for name in names if name not in TASKS]:
        parser.error(f"unknown task {unknown[0]!r}; for example {next(iter(TASKS))!r}")
    for name in names:
        print(summary(complete(name, chosen.folder)), flush=True)


def summary(record: dict[str, Any]) -> str:
    """The results in one line."""
    text = f"{record['name']}, {record['seconds'] / 60:.1f} min"
    if "nll" in record:
        text += f": NLL {sum(record['nll']) / len(record['nll']):.2f}"
        text += f", best round {record['best_round']}"
    if "moves" in record:
        turn = record["moves"]["degrees"]
        text += f"; turns: correlation {turn['correlation']}, error {turn['error']} degrees"
    return text


if __name__ == "__main__":
    main()
