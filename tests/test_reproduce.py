"""The one command that computes all numbers: its plan, how workers share it, how it resumes."""

import json
from pathlib import Path

import pytest

from tvae_core import data, training
from tvae_core.experiments import PROFILES, Profile, reproduce, runner
from tvae_core.experiments.configs import HELD_OUT, RECIPES, RUNS, Config
from tvae_core.experiments.reproduce import Task, clock, local_rank, share, tasks, worker

SMALL = ("--only", "plain-vae", "--only", "plain-multi1", "--seeds", "2", "--epochs", "1")


@pytest.fixture(autouse=True)
def runs(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("TVAE_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("TVAE_PROFILE", "smoke")
    # A fingerprint trains and evaluates too, which would be counted here. See test_fingerprint.
    monkeypatch.setattr(runner, "fingerprint", lambda config: 16 * "0")
    return tmp_path / "runs"


def finished(runs: Path) -> list[tuple[str, int]]:
    """The names and seeds of the finished runs."""
    records = [json.loads(path.read_bytes()) for path in runs.glob("*/record-*.json")]
    return sorted((record["name"], record["seed"]) for record in records)


ALL = [("plain-multi1", 0), ("plain-multi1", 1), ("plain-vae", 0), ("plain-vae", 1)]


# The plan.


def test_a_name_means_the_same_run_in_every_recipe():
    for recipe in RECIPES.values():
        assert all(RUNS[name] == config for name, config in recipe.items())


def test_an_ablation_differs_from_the_modern_run_in_one_setting():
    modern = {name: RUNS[name].settings() for name in RUNS if name.endswith("iwae5-modern")}
    for name, config in RECIPES["ablation"].items():
        settings, base = config.settings(), modern[f"{config.model}-iwae5-modern"]
        changed = {key for key in {*settings, *base} if settings.get(key) != base.get(key)}
        if {"optimizer", "peak"} & changed:
            changed = changed - {"optimizer", "peak"} | {"optimizer"}
        assert len(changed) == (0 if name in modern else 1), (name, changed)


@pytest.mark.parametrize(
    ("objective", "estimator"), [("iwae", "stl"), ("multi", "dreg"), ("miwae-4", "dreg")]
)
def test_a_bound_is_not_trained_under_the_name_of_another(objective, estimator):
    with pytest.raises(ValueError, match=f"does not estimate the gradient of '{objective}'"):
        Config("plain", objective, 5, estimator=estimator)


def test_the_ways_to_spend_16_draws_differ_only_in_objective_and_estimator():
    for model in ("plain", "affine"):
        settings = [c.settings() for c in RECIPES["gradients"].values() if c.model == model]
        ways = {(s.pop("objective"), s.pop("estimator", None)) for s in settings}
        assert len(ways) == len(settings) == 6
        assert all(s == settings[0] for s in settings)
        base = RUNS[f"{model}-iwae5-modern"].settings()
        del base["objective"], base["estimator"]
        assert {**base, "k": 16} == settings[0]


@pytest.mark.parametrize("recipe", HELD_OUT)
def test_a_recipe_on_held_out_images_is_not_combined_with_others(recipe, capsys):
    """`test_wiring` looks at the images that it gets."""
    with pytest.raises(SystemExit):
        reproduce.main(["--recipe", recipe, "--recipe", "study", "--dry-run"])
    assert "cannot be combined with others" in capsys.readouterr().err


def test_a_cpu_trains_one_seed_at_a_time_and_a_gpu_all_of_them_at_once():
    assert tasks(["a", "b"], (0, 7), False) == [
        Task("a", (0,)),
        Task("b", (0,)),
        Task("a", (7,)),
        Task("b", (7,)),
    ]
    assert tasks(["a", "b"], (0, 7), True) == [Task("a", (0, 7)), Task("b", (0, 7))]
    assert str(Task("a", (0, 7))) == "a, seeds 0, 7"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("side_by_side", [False, True])
def test_each_task_goes_to_exactly_one_worker(size, side_by_side):
    todo = tasks(list(RUNS), range(3), side_by_side)
    shares = [share(todo, rank, size, PROFILES["paper"]) for rank in range(size)]
    assert sorted(task for mine in shares for task in mine) == sorted(todo)
    assert all(mine == [task for task in todo if task in mine] for mine in shares)  # in order


def test_a_worker_reads_its_rank_from_torchrun():
    assert (worker({}), local_rank({})) == ((0, 1), 0)
    environ = {"RANK": "6", "WORLD_SIZE": "8", "LOCAL_RANK": "2", "LOCAL_WORLD_SIZE": "4"}
    assert (worker(environ), local_rank(environ)) == ((6, 8), 2)
    assert worker({"WORLD_SIZE": "8"}) == (0, 1)


def test_times_are_printed_in_hours_and_minutes():
    assert [clock(s) for s in (0, 89, 3600, 7499)] == ["0 min", "1 min", "1 h 00 min", "2 h 05 min"]


# The command.


def test_the_list_names_every_run(capsys):
    reproduce.main(["--list"])
    printed = capsys.readouterr().out
    assert all(name in printed for name in RUNS)


def test_a_dry_run_shows_the_plan_and_trains_nothing(runs, capsys, monkeypatch):
    monkeypatch.setattr(training, "fit", None)
    reproduce.main([*SMALL, "--dry-run"])
    printed = capsys.readouterr().out
    for task in ("plain-vae, seed 0", "plain-vae, seed 1", "plain-multi1, seed 1"):
        assert task in printed
    assert "4 of 4 to do, 0 min from scratch" in printed
    assert finished(runs) == []


def test_a_second_call_does_only_the_remaining_tasks(runs, capsys, monkeypatch):
    fit, calls = training.fit, []

    def killed_in_the_third(*arguments, **options):
        calls.append(options)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return fit(*arguments, **options)

    monkeypatch.setattr(training, "fit", killed_in_the_third)
    with pytest.raises(KeyboardInterrupt):
        reproduce.main([*SMALL])
    assert len(finished(runs)) == 2
    assert all(options["epochs"] == 1 for options in calls)
    capsys.readouterr()
    reproduce.main([*SMALL])
    printed = capsys.readouterr().out
    assert finished(runs) == ALL
    assert len(calls) == 5
    assert "2 of 4 to do" in printed
    assert "2 of 2 done, about 0 min left" in printed
    reproduce.main([*SMALL])
    assert len(calls) == 5
    assert capsys.readouterr().out.count("finished") == 4


def test_the_first_seed_is_also_evaluated_on_all_test_images(runs, monkeypatch):
    few = Profile("paper", "mini", 100, {1: 1, 5: 1, 50: 1}, 20, 10)
    monkeypatch.setattr(runner, "current_profile", lambda: few)
    reproduce.main(["--only", "plain-vae", "--seeds", "2"])
    records = [json.loads(path.read_bytes()) for path in runs.glob("*/record-*.json")]
    assert sorted((r["seed"], r["data"]["test"]["n"]) for r in records) == [
        (0, 20),
        (0, 1000),
        (1, 20),
    ]


def test_the_plan_hashes_the_images_once_for_all_tasks(runs, monkeypatch):
    hashed, sha256 = [], data.Images.sha256
    monkeypatch.setattr(data.Images, "sha256", lambda x: hashed.append(len(x)) or sha256(x))
    reproduce.main([*SMALL, "--dry-run"])
    assert hashed == [1_000, 50, 50]  # to train on; to test on, gray and binary


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "affin-*"], "--only affin-*: no such run; known: plain-vae, affine-vae"),
        (["--seeds", "many"], "expected a count (3) or a comma-separated list (0,4 or 4,), got 'm"),
        (["--seeds", "0"], "or 4,), got '0'"),
        (["--seeds", "1,-2"], "or 4,), got '1,-2'"),
        (["--epochs", "0"], "--epochs 0: expected at least 1"),
        (["--recipe", "studie"], "invalid choice: 'studie'"),
    ],
)
def test_a_wrong_argument_is_refused_and_the_message_says_what_is_expected(
    capsys, arguments, message
):
    with pytest.raises(SystemExit):
        reproduce.main(arguments)
    assert message in capsys.readouterr().err


def test_seeds_are_given_as_a_count_or_a_list():
    assert reproduce._seeds("3") == (0, 1, 2)
    assert reproduce._seeds("4,") == (4,)
    assert reproduce._seeds("5,1,5") == (5, 1)
