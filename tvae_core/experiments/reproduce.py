"""One command for the training runs of chapters 1 to 11: `python -m tvae_core.reproduce`.

Trains and measures every run of a recipe for several seeds. Finished runs are skipped, and killed
ones resume after their last epoch. Under torchrun each worker takes its share of the runs; all
workers must see the same folder:

    torchrun --nproc-per-node 8 -m tvae_core.reproduce --seeds 5

A GPU trains all seeds of a run side by side. If several workers share one GPU, NVIDIA's MPS makes
them faster by running their kernels at the same time: start `nvidia-cuda-mps-control -d` first.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import os
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm.auto import tqdm

from tvae_core import data, evaluation
from tvae_core.data import Images
from tvae_core.experiments import runner, stacking
from tvae_core.experiments.acceleration import (
    Recorded,
    fast_arithmetic,
    plain_step,
    rows_at_once,
    timed,
)
from tvae_core.experiments.configs import HELD_OUT, RECIPES, RUNS
from tvae_core.experiments.runner import Job, Profile
from tvae_core.runtime import is_live, pick_device, seeded


class Task(NamedTuple):
    """Seeds of one run that a worker trains together: one on a CPU, all of them on a GPU."""

    name: str
    seeds: tuple[int, ...]

    def __str__(self) -> str:
        seeds = f"seed{'s' * (len(self.seeds) > 1)} {', '.join(map(str, self.seeds))}"
        return f"{self.name}, {seeds}"


def tasks(names: Sequence[str], seeds: Sequence[int], side_by_side: bool) -> list[Task]:
    """All tasks; those with the first seed come first."""
    if side_by_side:
        return [Task(name, tuple(seeds)) for name in names]
    return [Task(name, (seed,)) for seed in seeds for name in names]


def worker(environ: Mapping[str, str] = os.environ) -> tuple[int, int]:
    """(rank, number of workers), as torchrun sets them; (0, 1) without it."""
    if "RANK" in environ and "WORLD_SIZE" in environ:
        return int(environ["RANK"]), int(environ["WORLD_SIZE"])
    return 0, 1


def local_rank(environ: Mapping[str, str] = os.environ) -> int:
    """The number of this worker among those that torchrun started on its machine."""
    return int(environ.get("LOCAL_RANK", 0))


def share(todo: Sequence[Task], rank: int, size: int, profile: Profile) -> list[Task]:
    """One worker's tasks: longest first, each task goes to the worker with the least work so far.

    Every worker computes the same division on its own, because it depends only on the plan.
    """

    def cost(task: Task) -> float:
        config = RUNS[task.name]
        passes = 1 + config.k * (1 if config.model == "plain" else 1.4)
        passes *= 2 if config.look else 1  # a second network, and a second warp, for each draw
        if len(task.seeds) > 1:
            passes += 4  # on a GPU, where launching its many kernels takes about as long as that
        return len(task.seeds) * config.epochs(profile.epochs) * passes

    loads, mine = [0.0] * size, set()
    for task in sorted(todo, key=cost, reverse=True):
        least = loads.index(min(loads))
        loads[least] += cost(task)
        if least == rank:
            mine.add(task)
    return [task for task in todo if task in mine]


class Pace(NamedTuple):
    """Seconds for a training step, and for the NLL of an image, as timed on this machine."""

    step: float
    image: float

    def seconds(self, job: Job, n_tests: int) -> float:
        """A rough estimate for training a job and computing the NLL of `n_tests` images."""
        steps = job.settings["epochs"] * len(runner.batches(job.config, job.images))
        return steps * self.step + n_tests * self.image


def try_out(job: Job, seeds: int) -> Pace:
    """Time a few steps and a few images of a job, which takes seconds and leaves nothing behind.

    A step trains `seeds` seeds side by side.
    """
    cuda = job.images.pixels.is_cuda
    stack = seeds if seeds > 1 else None
    config = job.config
    with seeded(0):
        alone = runner.untrained(config, job.images, 0)
        model = stacking.stack([alone] * stack) if stack else alone
        x = next(iter(runner.batches(config, job.images, stack)))
        opt, _ = config.make_optimizer(model, 1, 1)

        def evaluate(x: Tensor) -> tuple[Tensor, Tensor]:
            loss = -config.gradient(model.particles(x, config.k)).mean()
            return loss, loss.detach()

        take = plain_step(evaluate, opt)
        if cuda:
            take = Recorded(take)
        for _ in range(Recorded.BEFORE + 1 if cuda else 1):
            take(x)
        few = job.images[: 100 if cuda else 10]
        rows = rows_at_once(few.pixels.device)

        def score() -> None:
            evaluation.nll(alone, few, job.profile.nll_samples, rows=rows)

        seconds = [min(timed(act) for _ in range(3)) for act in (lambda: take(x), score)]
    return Pace(seconds[0], seconds[1] / len(few))


def clock(seconds: float) -> str:
    """Hours and minutes, such as "2 h 05 min"."""
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"


@fast_arithmetic()
def main(arguments: Sequence[str] | None = None) -> None:
    """Train and measure every run of a recipe, for several seeds."""
    chosen = _parse(arguments)
    if chosen.list:
        for recipe, names in RECIPES.items():
            print(f"{recipe}: {', '.join(names)}")
        return
    if pick_device().type == "cuda":
        torch.cuda.set_device(local_rank() % torch.cuda.device_count())
    profile = runner.current_profile()
    if {*chosen.recipe} <= {*HELD_OUT}:  # which must not see the test images
        held_out = runner.PROFILES["validation"]
        paper = profile.name == "paper"
        profile = held_out if paper else dataclasses.replace(profile, held_out=held_out.held_out)
    if chosen.epochs:
        profile = dataclasses.replace(profile, epochs=dict.fromkeys(profile.epochs, chosen.epochs))
    train, test = runner.load_data(profile)
    if train.name != profile.dataset:  # load_data has said why
        raise SystemExit(
            f"nothing was trained: the profile {profile.name!r} needs {profile.dataset!r}, and "
            "runs on other images would get the same name; get these images first, as said above"
        )
    side_by_side = train.pixels.is_cuda
    trained_on = runner.describe(train)
    jobs = {name: Job(name, RUNS[name], profile, train, trained_on) for name in chosen.names}
    rank, size = worker()
    plan = tasks(chosen.names, chosen.seeds, side_by_side)
    mine = share(plan, rank, size, profile)
    if size > 1:
        print(f"worker {rank} of {size}: {len(mine)} of {len(plan)} tasks")

    whole = test
    if profile.name == "paper":
        whole = data.load(train.name, "test").to(train.pixels.device)

    def tests(task: Task) -> list[Images]:
        """The test sets of a task: `test`, and for the first seed also the whole test set."""
        first = chosen.seeds[0] in task.seeds
        return [test, whole] if first and len(test) < len(whole) else [test]

    @functools.cache
    def tested_on(binarization: str, n: int) -> dict[str, Any]:
        """What a record says of the n test images; binarizing and hashing them takes seconds."""
        config = next(c for c in RUNS.values() if c.binarization == binarization)
        return runner.describe(runner.as_seen(config, test if n == len(test) else whole))

    def finished(task: Task) -> bool:
        job = jobs[task.name]
        files = [job.record_name(tested_on(job.config.binarization, len(x))) for x in tests(task)]
        return all((job.folder(s) / file).exists() for s in task.seeds for file in files)

    todo = [task for task in mine if not finished(task)]
    at_once = {task.name: len(task.seeds) for task in todo}
    paces = {name: try_out(jobs[name], seeds) for name, seeds in at_once.items()}
    seconds = {
        task: paces[task.name].seconds(
            jobs[task.name], len(task.seeds) * sum(map(len, tests(task)))
        )
        for task in todo
    }
    for task in mine:
        print(f"{task!s:40} {clock(seconds[task]) if task in seconds else 'finished'}")
    print(f"{len(todo)} of {len(mine)} to do, {clock(sum(seconds.values()))} from scratch")
    if chosen.dry_run:
        return
    bar = tqdm(total=round(sum(seconds.values())), unit="s", disable=not is_live())
    for done, task in enumerate(todo, 1):
        bar.set_description(str(task))
        for images in tests(task):
            runner.run_seeds(task.name, train, images, task.seeds, profile, side_by_side)
        bar.update(round(seconds[task]))
        left = clock(sum(seconds[other] for other in todo[done:]))
        print(f"{done} of {len(todo)} done, about {left} left", flush=True)
    bar.close()


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tvae_core.reproduce",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--recipe",
        choices=RECIPES,
        action="append",
        help=f"default: all except {' and '.join(HELD_OUT)}; may be repeated",
    )
    add(
        "--only",
        metavar="PATTERN",
        action="append",
        help="only runs whose names match, for example 'affine-*'",
    )
    add("--seeds", type=_seeds, default=(0, 1, 2), help="a count (3) or a list (0,4); default: 3")
    add("--epochs", type=int, help="number of epochs, instead of the profile's")
    add("--list", action="store_true", help="list the recipes and their runs, and stop")
    add("--dry-run", action="store_true", help="show the plan, and stop")
    chosen = parser.parse_args(arguments)
    chosen.recipe = chosen.recipe or [recipe for recipe in RECIPES if recipe not in HELD_OUT]
    held_out = [recipe for recipe in chosen.recipe if recipe in HELD_OUT]
    if held_out and len(held_out) < len(chosen.recipe):
        parser.error(
            f"--recipe {' or '.join(held_out)} cannot be combined with others: it must not see the "
            "test images"
        )
    names = [name for recipe in chosen.recipe for name in RECIPES[recipe]]
    for pattern in chosen.only or []:
        if not any(fnmatchcase(name, pattern) for name in names):
            parser.error(f"--only {pattern}: no such run; known: {', '.join(names)}")
    if chosen.only:
        names = [n for n in names if any(fnmatchcase(n, pattern) for pattern in chosen.only)]
    if chosen.epochs is not None and chosen.epochs < 1:
        parser.error(f"--epochs {chosen.epochs}: expected at least 1")
    chosen.names = names
    return chosen


def _seeds(text: str) -> tuple[int, ...]:
    """ "3" means the seeds 0, 1 and 2; "0,4" and "4," are lists of seeds."""
    try:
        if "," in text:
            seeds = tuple(dict.fromkeys(int(part) for part in text.split(",") if part))
        else:
            seeds = tuple(range(int(text)))
    except ValueError:
        seeds = ()
    if not seeds or min(seeds) < 0:
        raise argparse.ArgumentTypeError(
            f"expected a count (3) or a comma-separated list (0,4 or 4,), got {text!r}"
        )
    return seeds
