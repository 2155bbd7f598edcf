"""From a run's name to its number: which images, seeds, options and files are used on the way.

Training and scoring are replaced by stubs that note what they were given. What they compute from it
is guarded by `test_fingerprint`.
"""

import dataclasses
import functools
import itertools
import math
import statistics
from pathlib import Path
from typing import Any

import pytest
import torch
from test_fingerprint import BASE, CHANGES

from tvae_core import data, evaluation, training
from tvae_core.data import Images
from tvae_core.experiments import PROFILES, Profile, reproduce, results, runner
from tvae_core.experiments.acceleration import Compiled, accelerated_step
from tvae_core.experiments.configs import HELD_OUT, OPTIMIZERS, RUNS
from tvae_core.experiments.records import load_record
from tvae_core.experiments.reproduce import share, tasks
from tvae_core.experiments.runner import Job
from tvae_core.runtime import seeded

TINY = Profile("tiny", "mini", 20, {1: 3, 2: 3, 3: 3, 5: 2}, n_test=10, nll_samples=30)


def numbered(start: int, stop: int, name: str = "numbered") -> Images:
    """Images of one size whose first pixels say which number each of them has."""
    numbers = torch.arange(start, stop)
    pixels = torch.zeros(stop - start, 1, 4, 6, dtype=torch.uint8)
    pixels[:, 0, 0, 0], pixels[:, 0, 0, 1] = (numbers // 256).byte(), (numbers % 256).byte()
    return Images(pixels, numbers, name)


def numbers(images: Images) -> list[int]:
    found = images.pixels[:, 0, 0].long()
    read = (256 * found[:, 0] + found[:, 1]).tolist()
    assert read == images.labels.tolist()
    return read


# Images.


def steps(values: list[int]) -> set[int]:
    return {b - a for a, b in itertools.pairwise(values)}


def test_images_are_spread_evenly_from_the_first_to_near_the_last():
    for total, n in ((100, 20), (100, 100), (10_000, 2_000), (100, 30), (10, 20)):
        chosen = numbers(runner.spread(numbered(0, total), n))
        assert len(chosen) == min(n, total)
        assert chosen[0] == 0
        assert max(steps(chosen)) - min(steps(chosen)) <= 1
        assert chosen[-1] == total - math.ceil(total / min(n, total))


def test_held_out_images_are_evenly_spaced_and_never_trained_on():
    for total, n in ((100, 20), (60_000, 5_000), (100, 30), (100, 99)):
        train, test = (numbers(part) for part in runner.hold_out(numbered(0, total), n))
        assert sorted(train + test) == list(range(total))
        assert not {*train} & {*test}
        assert train == sorted(train)
        assert max(steps(test)) - min(steps(test)) <= 1
        assert len(test) == min(n, total // 2)


@pytest.fixture
def splits(monkeypatch) -> list[str]:
    """Numbers 0 to 599 stand for the training images, 600 to 699 for the test images."""
    asked = []

    def load(name: str, split: str, fallback: str | None = None) -> Images:
        asked.append(name)
        return numbered(0, 600, name) if split == "train" else numbered(600, 700, name)

    monkeypatch.setattr(data, "load", load)
    return asked


def test_a_profile_that_holds_out_never_shows_a_test_image(splits):
    profile = Profile("held", "fashion-mnist", 400, {}, n_test=50, nll_samples=5, held_out=150)
    train, test = map(numbers, runner.load_data(profile))
    assert train == [n for n in range(600) if n % 4][:400]
    assert test == list(range(0, 600, 4))[::3]
    assert {*splits} == {"fashion-mnist"}
    train, test = map(numbers, runner.load_data(dataclasses.replace(profile, held_out=0)))
    assert train == list(range(400))
    assert test == list(range(600, 700, 2))


@pytest.mark.parametrize("recipe", [*HELD_OUT, "study"])
def test_the_command_measures_recipes_that_are_compared_on_training_images(
    recipe, splits, monkeypatch, tmp_path
):
    """All others are measured on test images, with their first seed on all of these."""
    monkeypatch.setenv("TVAE_PROFILE", "paper")
    monkeypatch.setenv("TVAE_RUNS", str(tmp_path))
    monkeypatch.setattr(runner, "PAPER_ON_CPU", dataclasses.replace(runner.PAPER_ON_CPU, n_test=20))
    monkeypatch.setattr(reproduce, "try_out", lambda job, seeds: reproduce.Pace(0.01, 0.01))
    calls = []
    monkeypatch.setattr(runner, "run_seeds", lambda *given: calls.append(given))
    reproduce.main(["--recipe", recipe, "--only", "affine-iwae*", "--seeds", "4,7"])
    assert {name for name, *_ in calls} == {
        name for name in reproduce.RECIPES[recipe] if name.startswith("affine-iwae")
    }
    for _, train, test, seeds, profile, side_by_side in calls:
        assert not {*numbers(train)} & {*numbers(test)}
        assert seeds in ((4,), (7,))
        assert not side_by_side
        if recipe in HELD_OUT:
            assert profile == PROFILES["validation"]
            assert max(numbers(train) + numbers(test)) < 600
        else:
            assert profile == runner.PAPER_ON_CPU
            assert numbers(train) == list(range(600))
            assert numbers(test) in (list(range(600, 700, 5)), list(range(600, 700)))
    if recipe == "study":
        whole = [seeds for _, _, test, seeds, *_ in calls if len(test) == 100]
        assert whole == [(4,)]
    with pytest.raises(SystemExit):
        reproduce.main(["--recipe", HELD_OUT[0], "--recipe", "study", "--dry-run"])


def test_a_held_out_recipe_never_sees_a_test_image_whatever_the_profile(
    splits, monkeypatch, tmp_path
):
    monkeypatch.setenv("TVAE_RUNS", str(tmp_path))
    monkeypatch.setattr(reproduce, "try_out", lambda job, seeds: reproduce.Pace(0.01, 0.01))
    calls = []
    monkeypatch.setattr(runner, "run_seeds", lambda *given: calls.append(given))
    for profile in PROFILES:
        monkeypatch.setenv("TVAE_PROFILE", profile)
        reproduce.main(["--recipe", HELD_OUT[0], "--only", "affine-iwae*", "--seeds", "1"])
    assert {call[4].name for call in calls} == {*PROFILES} - {"paper"}
    assert max(n for _, *both, _, _, _ in calls for part in both for n in numbers(part)) < 600


def test_runs_on_other_images_than_their_profile_s_are_not_started(splits, monkeypatch, tmp_path):
    """They would have the names of the book's runs, and be collected as those."""
    monkeypatch.setenv("TVAE_PROFILE", "paper")
    monkeypatch.setenv("TVAE_RUNS", str(tmp_path))
    monkeypatch.setattr(data, "load", lambda *_, **__: numbered(0, 60, "mini"))
    monkeypatch.setattr(runner, "run_seeds", lambda *given: pytest.fail("a run was started"))
    with pytest.raises(SystemExit, match="nothing was trained: the profile 'paper' needs 'mnist'"):
        reproduce.main(["--only", "affine-vae", "--seeds", "1"])


# Training and evaluation.


class Stopped(Exception):
    pass


@pytest.fixture
def watched(monkeypatch, tmp_path) -> list[dict[str, Any]]:
    """What each call of `fit` and of `evaluate_model` was given, and the seed at that moment."""
    calls: list[dict[str, Any]] = []
    evaluate = runner.evaluate_model

    def fit(model, batches, estimator, **options):
        calls.append(
            {"of": "fit", "seed": torch.initial_seed(), "batches": batches, "gradient": estimator}
            | options
        )
        row = {name: 1.0 for name in ("recon", "kl_z", "kl_u", "learning_rate")}
        stack = batches.stack
        row["bound"] = [-50.0 - i for i in range(stack)] if stack else -50.0
        return [{"epoch": i + 1, "seconds": 2.0 + i, **row} for i in range(options["epochs"])]

    def watch(model, test, nll_samples):
        calls.append(
            {
                "of": "evaluate",
                "seed": torch.initial_seed(),
                "test": test,
                "nll_samples": nll_samples,
                "weights": {name: t.clone() for name, t in model.state_dict().items()},
            }
        )
        return evaluate(model, test, nll_samples)

    monkeypatch.setattr(training, "fit", fit)
    monkeypatch.setattr(runner, "evaluate_model", watch)
    monkeypatch.setattr(runner, "fingerprint", lambda config: 16 * "0")
    monkeypatch.setenv("TVAE_RUNS", str(tmp_path / "runs"))
    return calls


@pytest.fixture
def images() -> tuple[Images, Images]:
    with seeded(0):
        pixels = torch.randint(256, (30, 1, 4, 6), dtype=torch.uint8)
    return Images(pixels[:20], None, "mini"), Images(pixels[20:], None, "mini")


def started(name: str, train: Images, seed: int) -> dict[str, torch.Tensor]:
    """The parameters at the start of training, which is all that a stub of `fit` leaves."""
    with seeded(seed):
        return results.build({**RUNS[name].settings(), "size": train.size}).state_dict()


def test_a_record_s_seed_is_that_of_its_training_and_its_evaluation(watched, images):
    for seed in (0, 3):
        run = runner.run("affine-vae", *images, seed=seed, profile=TINY)
        fit, evaluate = watched[-2:]
        assert fit["seed"] == evaluate["seed"] == run.record.seed == seed
        for name, tensor in started("affine-vae", images[0], seed).items():
            assert torch.equal(evaluate["weights"][name], tensor)
    first, _, other, _ = watched
    assert first["checkpoint"] != other["checkpoint"]
    nll = [call["weights"]["encoder.mu_z.weight"] for call in watched if call["of"] == "evaluate"]
    assert not torch.equal(*nll)


def test_code_that_behaves_in_another_way_does_not_go_on_with_a_checkpoint(
    watched, images, monkeypatch
):
    train, _ = images
    job = runner.Job("affine-vae", RUNS["affine-vae"], TINY, train)
    for behaviour in ("1", "2", "1"):
        monkeypatch.setattr(runner, "fingerprint", lambda config, b=behaviour: 16 * b)
        job.train([0])
    first, other, again = (call["checkpoint"] for call in watched)
    assert first == again != other


def test_seeds_side_by_side_keep_their_own_weights_and_curves_and_share_the_time(watched, images):
    seeds = (5, 0, 3)
    runs = runner.run_seeds("affine-vae", *images, seeds, TINY, side_by_side=True)
    fits = [call for call in watched if call["of"] == "fit"]
    assert [call["batches"].stack for call in fits] == [3]
    weights = [call["weights"] for call in watched if call["of"] == "evaluate"]
    for place, (seed, run, found) in enumerate(zip(seeds, runs, weights, strict=True)):
        assert run.record.seed == seed
        assert [row["bound"] for row in run.record.curves] == [-50.0 - place] * 3
        assert run.record.seconds["train"] == pytest.approx((2 + 3 + 4) / 3)
        assert run.record.machine.side_by_side == 3
        for name, tensor in started("affine-vae", images[0], seed).items():
            assert torch.equal(found[name], tensor), (seed, name)


def rates(make: training.MakeOptimizer) -> list[float | str]:
    """The kind of optimizer, and its learning rates in the first of ten epochs of three batches."""
    opt, schedule = make(torch.nn.Linear(1, 1), 10, 3)
    found = []
    for _ in range(10):
        found += schedule.get_last_lr()
        opt.step()
        schedule.step()
    return [type(opt).__name__, *found]


@pytest.mark.parametrize(
    "name", ["plain-vae", "tps-multi5", "affine-iwae5-modern", "plain-iwae5-long"]
)
def test_every_option_of_a_run_reaches_training_and_evaluation(watched, images, name):
    train, test = images
    config = RUNS[name]
    record = runner.run(name, train, test, profile=TINY).record
    fit, evaluate = watched
    epochs = TINY.epochs[config.k] * (config.stretch or 1)
    assert (fit["k"], fit["epochs"], fit["warm_up"]) == (config.k, epochs, config.warm_up or 0)
    assert fit["gradient"] is config.gradient
    assert fit["batches"].images is train
    assert fit["batches"].batch_size == config.batch_size
    assert fit["batches"].binarization == config.binarization
    peak = {"peak": config.peak} if config.peak else {}
    asked = functools.partial(OPTIMIZERS[config.optimizer], **peak)
    assert rates(fit["optimizer"]) == rates(asked)
    seen = test if config.binarization == "none" else data.binarize_fixed(test)
    assert torch.equal(evaluate["test"].pixels, seen.pixels)
    assert evaluate["nll_samples"] == TINY.nll_samples == record.nll_ks[-1]
    assert record.config["epochs"] == len(record.curves) == epochs


def test_only_long_training_takes_the_time_to_accelerate_its_step(watched, images):
    """That is, with more than 700,000 images in all epochs together, by the profile's count."""
    cases = ((60_000, 11), (60_000, 12), (700_000, 1), (700_001, 1))
    for seed, (n_train, epochs) in enumerate(cases):
        profile = dataclasses.replace(TINY, n_train=n_train, epochs={1: epochs})
        runner.run("plain-vae", *images, seed=seed, profile=profile)
        fit = watched[-2]
        assert fit["accelerate"] is (accelerated_step if seed % 2 else None)


def test_only_a_large_evaluation_takes_the_time_to_compile(monkeypatch, tiny):
    """That is, one of more than 5 million draws on a CPU."""
    model, test = tiny
    given = []

    def stopped(model, images, n_samples, ks, rows, accelerate):
        given.append(accelerate)
        raise Stopped

    monkeypatch.setattr(evaluation, "nll", stopped)
    for draws, expected in ((1_000_000, None), (1_000_001, Compiled)):
        with pytest.raises(Stopped):
            runner.evaluate_model(model, test, draws)
        assert given.pop() is expected


# What a kept run is found by.


def job(**changes: Any) -> Job:
    """A job, with changes to its config, and to the profile and images if they are named."""
    parts = {"name": "a-run", "profile": TINY, "images": numbered(0, 20)}
    config = {name: value for name, value in changes.items() if name not in parts}
    parts |= {name: value for name, value in changes.items() if name in parts}
    return Job(config=dataclasses.replace(BASE, **config), **parts)


@pytest.fixture
def folders(monkeypatch, tmp_path) -> Path:
    monkeypatch.setenv("TVAE_RUNS", str(tmp_path))
    return tmp_path


def test_a_run_is_kept_by_everything_that_it_depends_on(folders):
    different = [
        job().folder(0),
        job().folder(1),
        *(job(**change).folder(0) for change in CHANGES),
        job(images=numbered(1, 21)).folder(0),
        job(images=numbered(0, 19)).folder(0),
        job(images=numbered(0, 20, "another name")).folder(0),
        job(profile=dataclasses.replace(TINY, epochs={2: 4})).folder(0),
        job(profile=dataclasses.replace(TINY, name="another")).folder(0),
        job(name="another-run").folder(0),
    ]
    keys = {path.name.rpartition("-")[2] for path in different}
    assert len({*different}) == len(different)
    assert len(keys) == len(different) - 2  # the last two are told apart by their names alone
    assert {path.parent for path in different} == {folders}


def record_path(run: Job, seed: int, test: Images) -> Path:
    """Where the command looks for the record of this run on these test images."""
    tested_on = runner.describe(runner.as_seen(run.config, test))
    return run.folder(seed) / run.record_name(tested_on)


def test_a_run_is_kept_by_nothing_else(folders):
    test = numbered(100, 110)
    other: dict[str, Any] = {"n_test": 5, "n_train": 9, "epochs": {1: 8, 2: 3}}
    smaller = dataclasses.replace(TINY, **other, dataset="fashion-mnist")
    unlabelled = dataclasses.replace(numbered(0, 20), labels=None)
    for same in (job(profile=smaller), job(images=unlabelled)):
        assert same.folder(0) == job().folder(0)
        assert record_path(same, 0, test) == record_path(job(), 0, test)
    more = job(profile=dataclasses.replace(TINY, nll_samples=31))
    assert more.folder(0) == job().folder(0)
    gray = job(binarization="none")
    records = [
        record_path(job(), 0, test),
        record_path(job(), 0, test[:9]),
        record_path(job(), 0, numbered(300, 310)),
        record_path(more, 0, test),
    ]
    assert {path.parent for path in records} == {job().folder(0)}
    assert len({*records, record_path(gray, 0, test)}) == 5
    assert record_path(gray, 0, test).name != records[0].name  # it sees other pixels


def test_runs_that_were_kept_before_are_still_found(folders):
    """If this fails, everyone's finished runs would be trained again."""
    assert job().folder(7).name == "a-run-tiny-seed7-85df335c"
    gray = job(binarization="none")
    assert record_path(gray, 7, numbered(100, 110)).name == "record-60b68f5f.json"


def test_the_record_is_where_the_command_looks_for_it(watched, images):
    train, test = images
    for name in ("plain-vae", "plain-iwae5"):
        record = runner.run(name, train, test, seed=2, profile=TINY).record
        assert load_record(record_path(Job(name, RUNS[name], TINY, train), 2, test)) == record


# Shares of several workers.


def test_workers_are_busy_for_about_as_long_as_each_other():
    """By the seconds that the book's records say each run took on a CPU, and as it was planned: by
    the greedy rule no two workers differ by more than the longest task."""
    took: dict[str, list[float]] = {}
    for record in results.all_records():
        if record.machine.device == "CPU" and record.profile == "paper":
            took.setdefault(record.name, []).append(record.seconds["train"])
    seconds = {name: statistics.median(values) for name, values in took.items()}
    assert len(seconds) == 46
    paper = PROFILES["paper"]
    for seeds, size in ((3, 2), (3, 3), (3, 5), (4, 8), (8, 16)):
        todo = tasks(list(seconds), range(seeds), False)
        shares = [share(todo, rank, size, paper) for rank in range(size)]
        assert sorted(task for mine in shares for task in mine) == sorted(todo)
        loads = [sum(seconds[task.name] for task in mine) for mine in shares]
        assert max(loads) < 1.25 * statistics.mean(loads)


def test_a_share_weighs_epochs_draws_warps_and_seeds():
    """Of two workers one gets the costly task, the other all the cheap ones."""
    for costly, seeds, cheap, times in (
        ("plain-iwae5-long", (0,), "plain-iwae5-modern", 4),  # 4 times the epochs
        ("plain-iwae50", (0,), "plain-iwae5", 8),  # 51 passes or 6
        ("affine-iwae5", (0,), "plain-iwae5", 2),  # 8 passes or 6
        ("plain-vae", (0, 1, 2, 3), "affine-vae", 5),  # 24 passes or 2.4
    ):
        todo = [reproduce.Task(cheap, (seed,)) for seed in range(times)]
        todo.append(reproduce.Task(costly, seeds))
        assert share(todo, 0, 2, PROFILES["paper"]) == todo[-1:]
        assert share(todo, 1, 2, PROFILES["paper"]) == todo[:-1]
