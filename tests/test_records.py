"""Laws of records and of the runs that write them."""

import dataclasses
import errno
import hashlib
import json
import math
import os
import shutil
from pathlib import Path

import pytest
import safetensors.torch
import torch
from linear_gaussian import LinearGaussian

from tvae_core import data, evaluation, experiments, models, training
from tvae_core.evaluation import Estimate
from tvae_core.experiments import PROFILES, Profile, results, runner, stacking
from tvae_core.experiments.acceleration import fast_arithmetic
from tvae_core.experiments.configs import ESTIMATORS, RUNS, RunName
from tvae_core.experiments.records import Machine, RunRecord, load_record
from tvae_core.runtime import seeded

RECORD = RunRecord(
    name="affine-vae",
    seed=3,
    profile="smoke",
    config={"model": "affine", "size": [28, 28], "k": 1},
    data={"test": {"name": "mini", "n": 2, "sha256": "ab"}},
    fingerprint="0123456789abcdef",
    versions={"torch": "2.13.0"},
    machine=Machine("a GPU", None, 4, 5),
    seconds={"train": 1.5, "evaluate": 0.25},
    curves=[{"epoch": 1, "bound": -200.125, "learning_rate": 1.0}],
    recon=Estimate(88.2669, 0.9),
    kl_z=Estimate(20.1, 0.2),
    kl_u=Estimate(1e-30, 0.0),
    nll=Estimate(101.1427, 1 / 3),
    nll_mc_se=0.1,
    nll_ks=[1, 5000],
    nll_at=[108.0, 101.1427],
    ess_median=12.5,
    nll_per_image=[100.0, 102.285],
    recon_per_image=[87.5, 89.033],
    kl_per_latent=[0.5, 2.25],
    variance_per_latent=[0.25, 1.0],
)


@pytest.fixture
def path(tmp_path) -> Path:
    RECORD.save(tmp_path / "record.json")
    return tmp_path / "record.json"


# Records.


def test_a_saved_record_loads_unchanged(path):
    assert load_record(path) == RECORD


def test_a_record_is_plain_json(path):
    assert json.loads(path.read_bytes()) == json.loads(json.dumps(dataclasses.asdict(RECORD)))


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_a_number_that_is_not_finite_is_not_saved_and_the_old_record_stays(path, number):
    with pytest.raises(ValueError, match="JSON"):
        dataclasses.replace(RECORD, nll_mc_se=number).save(path)
    assert load_record(path) == RECORD
    assert list(path.parent.iterdir()) == [path]


def test_a_record_is_on_disk_in_full_before_it_replaces_the_old_one(path, monkeypatch):
    def fsync(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="No space left"):
        dataclasses.replace(RECORD, seed=4).save(path)
    assert load_record(path) == RECORD
    assert list(path.parent.iterdir()) == [path]


FIELDS = [field.name for field in dataclasses.fields(RunRecord)]
DAMAGE = {
    "empty": lambda text: "",
    "truncated": lambda text: text[: len(text) // 2],
    "truncated by a brace": lambda text: text.rstrip()[:-1],
    "binary": lambda text: "\0\1\2",
    "corrupt": lambda text: text.replace(":", ";", 1),
    "a list": lambda text: f"[{text}]",
    "null": lambda text: "null",
    "an extra field": lambda text: text.replace("{", '{"extra": 1,', 1),
    **{
        f"without {field}": lambda text, field=field: json.dumps(
            {name: value for name, value in json.loads(text).items() if name != field}
        )
        for field in FIELDS
    },
}


def test_a_damaged_record_is_refused_and_the_message_names_the_file(subtests, path):
    whole = path.read_text(encoding="utf-8")
    message = r"record\.json is not a complete run record \(.*delete it"
    for name, damage in DAMAGE.items():
        with subtests.test(name):
            path.write_text(damage(whole), encoding="utf-8")
            with pytest.raises(ValueError, match=message):
                load_record(path)


def test_bytes_that_are_not_text_are_refused(path):
    path.write_bytes(b"\xff\xfe" + path.read_bytes())
    with pytest.raises(ValueError, match=r"record\.json is not a complete run record"):
        load_record(path)


def test_loading_a_missing_record_raises_file_not_found(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_record(tmp_path / "record.json")


# Runs: the book's, scaled down for tests.

TINY = Profile("tiny", "mini", 100, {1: 2, 5: 1, 50: 1}, n_test=10, nll_samples=30)


@pytest.fixture(scope="module")
def fingerprints() -> dict[str, str]:
    return {name: runner.fingerprint(RUNS[name]) for name in ("affine-vae", "plain-iwae5")}


@pytest.fixture(autouse=True)
def ready_fingerprints(fingerprints, monkeypatch) -> None:
    """A fingerprint trains and evaluates too: shield it from whatever a test breaks or counts."""
    known = {RUNS[name]: found for name, found in fingerprints.items()}
    monkeypatch.setattr(runner, "fingerprint", lambda config: known.get(config, 16 * "0"))


@pytest.fixture(scope="module")
def digits() -> tuple[data.Images, data.Images]:
    train, test = experiments.load_data(TINY)
    return train.to("cpu"), test.to("cpu")  # the CPU repeats results bit for bit


@pytest.fixture
def runs(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("TVAE_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


@pytest.fixture(scope="module")
def finished(tmp_path_factory, digits) -> Path:
    """A runs folder with two finished runs."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TVAE_RUNS", str(folder))
        for name in ("affine-vae", "plain-iwae5"):
            experiments.run(name, *digits, profile=TINY)
    return folder


@pytest.fixture
def kept(finished, runs) -> Path:
    """The folder of the finished run "affine-vae": a copy, which a test may damage."""
    shutil.copytree(finished, runs)
    (folder,) = runs.glob("affine-vae-*")
    return folder


def record_in(folder: Path) -> Path:
    (path,) = folder.glob("record-*.json")
    return path


class TrainedAgain(Exception):
    pass


def train_again(*_, **__) -> None:
    raise TrainedAgain


@pytest.fixture
def untrained(monkeypatch) -> None:
    """Make training an error."""
    monkeypatch.setattr(training, "fit", train_again)


def assert_same_weights(one: models.VAE, other: models.VAE) -> None:
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


@pytest.mark.parametrize("name", ["affine-vae", "plain-iwae5"])
def test_a_record_agrees_with_a_recomputation(finished, digits, monkeypatch, untrained, name):
    monkeypatch.setenv("TVAE_RUNS", str(finished))
    train, test = digits
    if RUNS[name].binarization == "dynamic":
        test = data.binarize_fixed(test)
    model, record = experiments.run(name, *digits, profile=TINY)
    with seeded(record.seed), fast_arithmetic():
        terms = evaluation.elbo_terms(model, test)
        ks = [1, 2, 5, 10, 20]
        nll = evaluation.nll(model, test, 30, ks)

    for field in ("recon", "kl_z", "kl_u"):
        assert getattr(record, field) == evaluation.mean_se(getattr(terms, field))
    assert record.nll == evaluation.mean_se(nll.nll)
    assert record.nll_mc_se == pytest.approx(nll.se.norm().item() / 10)
    assert record.nll_ks == [*ks, 30]
    assert record.nll_at == pytest.approx(nll.nll_at.mean(1).tolist())
    assert record.nll_per_image == pytest.approx(nll.nll.tolist(), abs=6e-4)
    assert record.ess_median == nll.ess.median()

    assert record.config == {
        **RUNS[name].settings(),
        "size": [28, 28],
        "epochs": TINY.epochs[RUNS[name].k],
        "nll_samples": 30,
    }
    assert record.data == {
        "train": {"name": "mini", "n": 100, "sha256": train.sha256()},
        "test": {"name": test.name, "n": 10, "sha256": test.sha256()},
    }
    assert (record.name, record.seed, record.profile) == (name, 0, "tiny")
    assert record.recon_per_image == pytest.approx(terms.recon.tolist(), abs=6e-4)
    kl_z, kl_u = model.split(torch.tensor(record.kl_per_latent))
    assert kl_z.sum().item() == pytest.approx(record.kl_z.mean, abs=0.01)
    assert kl_u.sum().item() == pytest.approx(record.kl_u.mean, abs=0.01)
    q = model.posterior(test.x)
    kl = (q.mean.square() + q.stddev.square() - 1) / 2 - q.stddev.log()
    assert record.kl_per_latent == pytest.approx(kl.mean(0).tolist(), abs=1e-4)
    assert record.variance_per_latent == pytest.approx(q.mean.var(0).tolist(), abs=1e-5)
    assert record.fingerprint == runner.fingerprint(RUNS[name])
    assert record.machine == Machine.here(train.pixels.device)
    assert record.versions["torch"] == torch.__version__
    assert [row["epoch"] for row in record.curves] == list(range(1, len(record.curves) + 1))
    assert len(record.curves) == record.config["epochs"]
    assert record.seconds["train"] == sum(row["seconds"] for row in record.curves)


def test_a_second_call_loads_the_run_that_the_first_one_saved(runs, digits, monkeypatch, capsys):
    first = experiments.run("affine-vae", *digits, profile=TINY)
    capsys.readouterr()
    monkeypatch.setattr(training, "fit", train_again)
    second = experiments.run("affine-vae", *digits, profile=TINY)
    printed = capsys.readouterr().out
    assert "affine-vae: loaded from affine-vae-tiny-seed0-" in printed
    assert all(training.describe(row) in printed for row in first.record.curves)
    assert second.record == first.record
    assert_same_weights(first.model, second.model)
    assert not first.model.training
    assert not second.model.training
    files = {path.name for path in next(runs.iterdir()).iterdir()}
    (record,) = (name for name in files if name.startswith("record-"))
    assert files == {record, "training.json", "weights.safetensors", "lock"}  # no checkpoint


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"train": slice(99)},
        {"profile": dataclasses.replace(TINY, epochs={1: 3})},
        {"name": "plain-vae"},
    ],
    ids=str,
)
@pytest.mark.usefixtures("kept", "untrained")
def test_a_saved_run_is_not_mistaken_for_a_different_one(digits, change):
    arguments = {"name": "affine-vae", "seed": 0, "profile": TINY} | change
    for split, images in zip(("train", "test"), digits, strict=True):
        arguments[split] = images[change[split]] if split in change else images
    with pytest.raises(TrainedAgain):
        experiments.run(**arguments)


@pytest.mark.parametrize(
    "change",
    [{"test": slice(9)}, {"profile": dataclasses.replace(TINY, nll_samples=31)}],
    ids=str,
)
@pytest.mark.usefixtures("untrained")
def test_a_saved_run_is_evaluated_again_when_the_evaluation_changes(kept, digits, change):
    train, test = digits
    before = experiments.run("affine-vae", train, test, profile=TINY)
    test = test[change.get("test", slice(None))]
    profile = change.get("profile", TINY)
    model, record = experiments.run("affine-vae", train, test, profile=profile)
    assert_same_weights(model, before.model)
    assert record.curves == before.record.curves
    assert record.data["test"]["n"] == len(test)
    assert record.nll_ks[-1] == profile.nll_samples
    assert len(list(kept.glob("record-*.json"))) == 2
    assert experiments.run("affine-vae", *digits, profile=TINY).record == before.record


@pytest.mark.parametrize(
    ("place", "step"),
    [(evaluation, "nll"), (runner, "write_atomically"), (RunRecord, "save")],
    ids=["evaluating", "writing weights", "writing the record"],
)
def test_a_run_killed_before_its_record_resumes_after_its_last_epoch_to_the_same_record(
    finished, runs, digits, monkeypatch, place, step
):
    def kill(*_, **__) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(place, step, kill)
        with pytest.raises(KeyboardInterrupt):
            experiments.run("affine-vae", *digits, profile=TINY)
    with monkeypatch.context() as patch:
        patch.setattr(data.Batches, "__iter__", train_again)  # all epochs are done
        model, record = experiments.run("affine-vae", *digits, profile=TINY)

    (folder,) = finished.glob("affine-vae-*")
    uninterrupted = load_record(record_in(folder))
    timeless = [
        {**dataclasses.asdict(r), "seconds": 0, "curves": [{**c, "seconds": 0} for c in r.curves]}
        for r in (record, uninterrupted)
    ]
    assert timeless[0] == timeless[1]
    kept = safetensors.torch.load_file(folder / "weights.safetensors")
    assert all(torch.equal(kept[name], tensor) for name, tensor in model.state_dict().items())


WEIGHTS = {
    "truncated": lambda content: content[:-1],
    "empty": lambda content: b"",
    "garbage": lambda content: bytes(100),
    "another model's": lambda content: safetensors.torch.save(models.build("tps").state_dict()),
    "incomplete": lambda content: safetensors.torch.save(
        dict(list(safetensors.torch.load(content).items())[1:])
    ),
}


def assert_refused(weights: Path, digits) -> None:
    with pytest.raises(ValueError, match="are missing, damaged or another model's; delete") as info:
        experiments.run("affine-vae", *digits, profile=TINY)
    assert str(weights) in str(info.value)


@pytest.mark.usefixtures("untrained")
@pytest.mark.parametrize("damage", WEIGHTS)
def test_damaged_weights_are_refused_and_the_message_names_the_file(kept, digits, damage):
    weights = kept / "weights.safetensors"
    weights.write_bytes(WEIGHTS[damage](weights.read_bytes()))
    assert_refused(weights, digits)


@pytest.mark.usefixtures("untrained")
def test_missing_weights_are_refused_and_the_message_names_the_file(kept, digits):
    (kept / "weights.safetensors").unlink()
    assert_refused(kept / "weights.safetensors", digits)


@pytest.mark.usefixtures("untrained")
def test_a_run_with_a_damaged_record_is_refused_and_the_message_names_the_file(kept, digits):
    record_in(kept).write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match=r"record-\w+\.json is not a complete run record"):
        experiments.run("affine-vae", *digits, profile=TINY)


@pytest.mark.usefixtures("untrained")
@pytest.mark.parametrize("content", ["", "{", "[]", "{}", "\0"])
def test_a_damaged_history_is_refused_and_the_message_names_the_file(kept, digits, content):
    record_in(kept).unlink()
    (kept / "training.json").write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=r"training\.json is not complete .*; delete the folder"):
        experiments.run("affine-vae", *digits, profile=TINY)


def test_seeds_side_by_side_start_as_they_would_alone_and_each_has_its_record(
    runs, digits, monkeypatch
):
    seeds, started = (0, 3, 5), {}
    stack = stacking.stack

    def watched(alone):
        started.update(zip(seeds, (model.state_dict() for model in alone), strict=True))
        return stack(alone)

    monkeypatch.setattr(stacking, "stack", watched)
    together = experiments.run_seeds("affine-vae", *digits, seeds, TINY, side_by_side=True)
    assert [run.record.seed for run in together] == list(seeds)
    assert len({run.record.nll.mean for run in together}) == 3
    assert len({str(run.record.curves) for run in together}) == 3
    for seed in seeds:
        with seeded(seed):
            alone = runner.untrained(RUNS["affine-vae"], digits[0], seed).state_dict()
        assert all(torch.equal(alone[name], started[seed][name]) for name in alone)
    # A later request for one of these seeds loads its saved run.
    monkeypatch.setattr(training, "fit", train_again)
    assert experiments.run("affine-vae", *digits, seed=3, profile=TINY).record == together[1].record


def test_an_unknown_run_is_refused_with_a_list_of_the_known_runs(digits):
    with pytest.raises(ValueError, match=r"unknown run 'affine'; known: plain-vae, affine-vae"):
        experiments.run("affine", *digits)


def test_every_run_starts_to_train_as_its_name_says():
    images = data.from_tensor(torch.rand(3, 1, 4, 6))
    for name, config in RUNS.items():
        named, objective, _ = RunName.of(name)
        decoder, _, look = named.partition("-")
        options = {"wide": (None, 512, None), "unbounded": (None, None, False), "": (None,) * 3}
        expected = options.get(look, (look, None, None))
        assert (config.look, config.encoder_width, config.bounded) == expected
        draws = objective.removeprefix(config.objective.partition("-")[0])
        assert (config.model, config.k) == (decoder, int(draws or 1)), name
        assert all(config.k in profile.epochs for profile in PROFILES.values()), name
        model = runner.untrained(config, images, 0)
        assert getattr(model.encoder, "look", None) == config.look
        bounded = None if config.look else config.bounded is not False
        assert getattr(model.encoder, "bounded", None) == bounded
        widths = {layer.out_features for layer in model.encoder.body[::2]}
        assert widths == {512 if look == "wide" else 256}
        assert model.dim_z + model.dim_u == 60
        assert (model.dim_u > 0) == (decoder != "plain"), name
        (x,) = runner.batches(config, images)
        assert (x.unique().numel() <= 2) == (config.binarization == "dynamic"), name
        config.gradient(model.particles(x, config.k)).mean().backward()
        opt, _ = config.make_optimizer(model, 1, 1)
        opt.step()


@pytest.mark.parametrize(
    ("objective", "value"),
    [
        ("vae", lambda p: p.log_lik.mean(0) - p.kl.sum(-1)),
        ("multi", lambda p: p.log_w.mean(0)),
        ("iwae", lambda p: p.log_w.exp().mean(0).log()),
        ("piwae-4", lambda p: p.log_w.exp().mean(0).log()),
        ("miwae-4", lambda p: p.log_w.view(2, 4, 3).exp().mean(0).log().mean(0)),
        ("ciwae-0.5", lambda p: (p.log_w.mean(0) + p.log_w.exp().mean(0).log()) / 2),
    ],
)
def test_an_objective_computes_the_bound_it_is_named_after(objective, value):
    particles = LinearGaussian(shift=0.5).particles(LinearGaussian().images(3).x, 8)
    estimate = ESTIMATORS[objective](particles)
    torch.testing.assert_close(estimate, value(particles))


# Pretrained weights.


@pytest.fixture
def package(kept, tmp_path, monkeypatch) -> Path:
    """A package whose only pretrained run is the finished one, with weights in half precision."""
    folder = tmp_path / "package" / "pretrained"
    folder.mkdir(parents=True)
    state = safetensors.torch.load_file(kept / "weights.safetensors")
    halved = {name: tensor.half() for name, tensor in state.items()}
    safetensors.torch.save_file(halved, folder / "affine-vae.safetensors")
    shutil.copy(record_in(kept), folder / "affine-vae.json")
    sums = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
        for path in folder.iterdir()
    ]
    (folder / "SHA256SUMS").write_text("".join(sums), encoding="utf-8")
    monkeypatch.setattr(results, "FOLDER", folder)
    return folder


def test_load_pretrained_returns_the_model_in_float32_and_its_record(package, kept):
    run = results.load_pretrained("affine-vae")
    assert run.record == results.record_of("affine-vae") == load_record(record_in(kept))
    state = safetensors.torch.load_file(kept / "weights.safetensors")
    for name, tensor in run.model.state_dict().items():
        torch.testing.assert_close(tensor.cpu(), state[name], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("file", ["affine-vae.safetensors", "affine-vae.json"])
def test_a_single_wrong_bit_in_a_pretrained_file_is_found(package, file):
    content = bytearray((package / file).read_bytes())
    content[-9] ^= 1
    (package / file).write_bytes(content)
    with pytest.raises(OSError, match=f"{file} is damaged; install tvae_core again"):
        results.load_pretrained("affine-vae")


@pytest.mark.usefixtures("package")
def test_an_unknown_pretrained_model_is_refused_with_a_list_of_the_known_ones():
    with pytest.raises(ValueError, match=r"unknown pretrained model 'affine'; known: affine-vae"):
        results.load_pretrained("affine")


def test_a_chapter_can_use_the_weights_of_the_book_instead_of_training(monkeypatch, capsys):
    monkeypatch.setattr(training, "fit", None)
    images = data.load("mini", "test")[:3]
    run = experiments.run("affine-vae", images, images, pretrained=True)
    assert run.record == results.record_of("affine-vae")
    assert "the book's weights" in capsys.readouterr().out


# Profiles.


def test_the_profile_is_chosen_by_name_or_else_by_the_machine(monkeypatch):
    monkeypatch.delenv("TVAE_DEVICE")
    for gpu in (False, True):
        monkeypatch.setattr(torch.cuda, "is_available", lambda gpu=gpu: gpu)
        for name in ("smoke", "reader"):
            monkeypatch.setenv("TVAE_PROFILE", name)
            assert runner.current_profile() == PROFILES[name]
        paper = PROFILES["paper"] if gpu else runner.PAPER_ON_CPU
        monkeypatch.setenv("TVAE_PROFILE", "paper")
        assert runner.current_profile() == paper
        monkeypatch.delenv("TVAE_PROFILE")
        assert runner.current_profile() == (paper if gpu else PROFILES["reader"])


def test_an_unknown_profile_is_refused_with_a_list_of_the_known_profiles(monkeypatch):
    monkeypatch.setenv("TVAE_PROFILE", "papr")
    with pytest.raises(ValueError, match=r"unknown profile \(TVAE_PROFILE\) 'papr'; known: smoke,"):
        runner.current_profile()


def test_a_small_test_set_is_spread_evenly_over_the_full_one(capsys):
    train, test = experiments.load_data(PROFILES["smoke"])
    assert "profile smoke: 1,000 training and 50 test images of mini on" in capsys.readouterr().out
    assert torch.equal(train.pixels.cpu(), data.load("mini", "train").pixels[:1000])
    assert torch.equal(test.pixels.cpu(), data.load("mini", "test").pixels[::20])


def test_images_of_another_profile_are_refused(monkeypatch):
    """A record must not say "reader" for a run that was trained on a tenth of those images."""
    monkeypatch.setenv("TVAE_PROFILE", "smoke")
    train, test = experiments.load_data(dataclasses.replace(PROFILES["smoke"], n_train=100))
    with pytest.raises(
        ValueError, match=r"100 training images do not fit the profile 'smoke'.*1,0"
    ):
        experiments.run("plain-vae", train, test)


def test_images_changed_in_place_count_as_different_images(runs, digits):
    train, test = digits
    train = dataclasses.replace(train, pixels=train.pixels.clone())
    first = experiments.run("affine-vae", train, test, profile=TINY)
    train.pixels[:50] = 0
    second = experiments.run("affine-vae", train, test, profile=TINY)
    assert second.record.data["train"]["sha256"] != first.record.data["train"]["sha256"]
    assert second.record.curves[-1]["bound"] != first.record.curves[-1]["bound"]


def test_a_machine_says_how_many_workers_shared_it(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "a GPU")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for workers, words in ((1, "a GPU"), (2, "a GPU"), (8, "a GPU, shared by 4 workers")):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(workers))
        assert str(Machine.here(torch.device("cuda"), runner._workers())) == words
    assert str(RECORD.machine) == "a GPU, shared by 4 workers, 5 side by side"
    assert str(Machine("CPU", 2)) == "CPU, 2 threads"
    assert Machine.here(torch.device("cpu")) == Machine("CPU", torch.get_num_threads())


def test_the_error_of_a_gap_comes_from_the_spread_over_seeds(monkeypatch, tmp_path):
    monkeypatch.setattr(results, "SEEDS", tmp_path / "seeds.json")
    nll = {"plain-vae": [100, 102, 104], "tps-vae": [90, 91, 92], "affine-vae": [91, 92]}
    summary = {name: {"nll": values, "recon": []} for name, values in nll.items()}
    results.SEEDS.write_text(json.dumps(summary), encoding="utf-8")
    gap = results.gap_over_seeds("tps-vae", "plain-vae")
    assert gap[:2] == (-11, pytest.approx((4 / 3 + 1 / 3) ** 0.5))
    # Welch's degrees of freedom: (4/3 + 1/3)^2 / ((4/3)^2 / 2 + (1/3)^2 / 2) = 2.94, for which
    # tables of Student's t give 3.22 as the 97.5 % point.
    assert gap.margin == pytest.approx(3.22 * gap.error, rel=2e-3)
    for mean, beyond in ((-2.1, True), (2.1, True), (-1.9, False)):
        assert results.Gap(mean, 1, 2).beyond_luck == beyond
    with pytest.raises(
        ValueError, match="'affine-vae' has 2 seeds; at least three seeds are needed"
    ):
        results.gap_over_seeds("affine-vae", "plain-vae")
    with pytest.raises(ValueError, match="unknown run 'tps'; known: plain-vae"):
        results.gap_over_seeds("tps", "plain-vae")
