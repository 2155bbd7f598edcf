"""Laws of training: a resumed run equals an uninterrupted one, errors say what happened, and the
learning rate, the history and the checkpoint are correct."""

import errno
import functools
import itertools
import tempfile
from pathlib import Path

import pytest
import torch
import toy_training
from toy_training import (
    BATCHES,
    EPOCHS,
    Disturbed,
    assert_same_run,
    kill,
    toy_batches,
    toy_model,
    train,
)

from tvae_core import bounds, data, models, training
from tvae_core.estimators import analytic_kl, dreg, reparameterized
from tvae_core.experiments import configs
from tvae_core.experiments.configs import OPTIMIZERS
from tvae_core.runtime import seeded

every_optimizer = pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)


@every_optimizer
def test_a_killed_run_resumes_to_the_result_of_an_uninterrupted_one(subtests, tmp_path, optimizer):
    uninterrupted = train(optimizer=optimizer)
    for batches_done in (BATCHES, BATCHES + 1, 2 * BATCHES + 3, 4 * BATCHES - 1):
        with subtests.test(batches_done=batches_done):
            checkpoint = tmp_path / f"{batches_done}.pt"
            with pytest.raises(KeyboardInterrupt):
                train(checkpoint, batches=Disturbed(batches_done, kill), optimizer=optimizer)
            # Another seed: everything that the result depends on must come from the checkpoint.
            assert_same_run(train(checkpoint, seed=99, optimizer=optimizer), uninterrupted)


def test_an_optimizer_whose_learning_rate_is_a_float_resumes_too(tmp_path):
    def plain_adam(model, epochs, steps):
        opt = torch.optim.Adam(model.parameters(), lr=1e-3)
        return opt, torch.optim.lr_scheduler.ConstantLR(opt, factor=1.0)

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "run.pt", batches=Disturbed(BATCHES + 1, kill), optimizer=plain_adam)
    resumed = train(tmp_path / "run.pt", seed=99, optimizer=plain_adam)
    assert_same_run(resumed, train(optimizer=plain_adam))


def test_a_run_that_is_killed_repeatedly_ends_at_the_same_result(tmp_path):
    checkpoint = tmp_path / "checkpoint.pt"
    for seed in range(EPOCHS - 1):
        with pytest.raises(KeyboardInterrupt):
            train(checkpoint, batches=Disturbed(BATCHES + 2, kill), seed=seed)
    assert_same_run(train(checkpoint, seed=99), train())


def test_what_is_called_after_an_epoch_may_add_to_its_row_and_stop_the_training(tmp_path):
    """Called before the checkpoint is saved, so a run that stopped is finished for good."""

    def watch(history) -> None:
        assert (tmp_path / "run.pt").exists() == (len(history) > 1)
        history[-1]["seen"] = len(history)
        history[-1]["stop"] = len(history) == 2

    train(tmp_path / "run.pt", after_epoch=watch)
    again = train(tmp_path / "run.pt", batches=Disturbed(0, kill), after_epoch=watch)[1]
    assert [row["seen"] for row in again] == [1, 2]
    assert [row["stop"] for row in again] == [False, True]


def test_a_finished_run_is_not_trained_again(tmp_path):
    checkpoint = tmp_path / "checkpoint.pt"
    finished = train(checkpoint)
    again = train(checkpoint, batches=Disturbed(0, kill), seed=99)
    assert_same_run(again, finished)
    assert again[1] == finished[1]  # the seconds too


@every_optimizer
def test_the_result_depends_only_on_the_seed(optimizer, tmp_path):
    one = train(optimizer=optimizer)
    torch.rand(3)
    assert_same_run(one, train(tmp_path / "checkpoint.pt", optimizer=optimizer))
    assert train(optimizer=optimizer, seed=1)[1][-1]["bound"] != one[1][-1]["bound"]


# Checkpoints.


FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("failure", "raised", "message"),
    [
        (FULL, OSError, r"cannot write .*checkpoint.pt \(No space.*TVAE_RUNS"),
        (KeyboardInterrupt(), KeyboardInterrupt, None),
    ],
)
@pytest.mark.parametrize("room", [0, 1_000])
def test_a_write_that_fails_after_some_bytes_leaves_the_last_checkpoint_readable(
    tmp_path, monkeypatch, failure, raised, message, room
):
    """As on a disk that is full, or when someone interrupts the write."""
    checkpoint, make, made = tmp_path / "checkpoint.pt", tempfile.NamedTemporaryFile, []

    def with_little_room(**options):
        file = make(**options)
        made.append(file)
        if len(made) == 2:
            write, written = file.file.write, []

            def fail_when_full(content) -> int:
                written.append(len(content))
                if sum(written) > room:
                    write(bytes(content)[:room])
                    raise failure
                return write(content)

            file.write = fail_when_full
        return file

    monkeypatch.setattr(tempfile, "NamedTemporaryFile", with_little_room)
    with pytest.raises(raised, match=message):
        train(checkpoint)
    assert len(made) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]
    assert_same_run(train(checkpoint, seed=99), train())


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    """The checkpoint of a run that was killed after one epoch."""
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "checkpoint.pt", batches=Disturbed(BATCHES, kill))
    return tmp_path / "checkpoint.pt"


def assert_refused(checkpoint: Path, **options) -> None:
    with pytest.raises(ValueError, match=r"damaged or belongs to another run.*delete it") as info:
        train(checkpoint, **options)
    assert str(checkpoint) in str(info.value)


def test_a_corrupt_checkpoint_is_refused(subtests, checkpoint):
    for content in (b"", b"not a checkpoint at all", bytes(1000), b"\xff" * 1000):
        with subtests.test(content=content[:10]):
            checkpoint.write_bytes(content)
            assert_refused(checkpoint)


def test_a_truncated_checkpoint_is_refused(subtests, checkpoint):
    content = checkpoint.read_bytes()
    for fraction in (0.01, 0.1, 0.5, 0.9, 0.99):
        with subtests.test(fraction=fraction):
            checkpoint.write_bytes(content[: int(fraction * len(content))])
            assert_refused(checkpoint)


def test_a_single_wrong_bit_in_a_weight_is_found(checkpoint):
    content = bytearray(checkpoint.read_bytes())
    weight = torch.load(checkpoint)["model"]["encoder.mu_z.weight"].numpy().tobytes()
    content[content.index(weight)] ^= 1
    checkpoint.write_bytes(content)
    assert_refused(checkpoint)


def test_a_torch_file_that_is_not_a_checkpoint_is_refused(subtests, checkpoint):
    for content in ([1], torch.zeros(3), 3, None, {}, {"model": 1}):
        with subtests.test(content=content):
            torch.save(content, checkpoint)
            assert_refused(checkpoint)


def test_a_checkpoint_with_a_missing_part_is_refused(subtests, checkpoint):
    state = torch.load(checkpoint)
    for part in ("settings", "model", "optimizer", "schedule", "history", "rng"):
        with subtests.test(part):
            torch.save({name: kept for name, kept in state.items() if name != part}, checkpoint)
            assert_refused(checkpoint)


def test_a_checkpoint_of_another_model_is_refused(checkpoint, monkeypatch):
    monkeypatch.setattr(toy_training, "toy_model", lambda: toy_model(dim_z=4))
    assert_refused(checkpoint)


peak = functools.partial(training.adam, peak=1e-3)
OTHER_SETTINGS = {
    "epochs was 4, and is 5": {"epochs": 5},
    "k was 2, and is 3": {"k": 3},
    "warm_up was 0, and is 1": {"warm_up": 1},
    r"estimator was reparameterized.*\(iwae\), and is .*\(elbo\)": {
        "estimator": reparameterized(bounds.elbo)
    },
    r"estimator was .*\(iwae\), and is .*\(partial\(ciwae, 0.5\)\)": {
        "estimator": reparameterized(functools.partial(bounds.ciwae, beta=0.5))
    },
    "estimator was .*, and is dreg": {"estimator": dreg},
    "optimizer was adadelta, and is adam": {"optimizer": training.adam},
    r"optimizer was adadelta, and is partial\(adam, 0.001\)": {"optimizer": peak},
    r"len\(batches\) was 4, and is 10": {
        "batches": data.Batches(toy_batches().images, 2, "dynamic")
    },
    # As many batches, of another size.
    "batch_size was 6, and is 5": {"batches": data.Batches(toy_batches().images, 5, "dynamic")},
    "binarization was dynamic, and is none": {"batches": toy_batches("none")},
}


@pytest.mark.parametrize(("message", "options"), OTHER_SETTINGS.items(), ids=OTHER_SETTINGS)
def test_a_checkpoint_of_a_run_with_another_setting_is_refused_by_the_name_of_it(
    checkpoint, message, options
):
    with pytest.raises(ValueError, match=rf"belongs to another run \({message} now\); delete it"):
        train(checkpoint, **options)


def test_a_recipe_that_was_rewritten_to_make_another_optimizer_is_noticed(checkpoint):
    def adadelta(model, epochs, batches):
        return frozen(model, epochs, batches)

    adadelta.__qualname__ = "adadelta"
    with pytest.raises(ValueError, match=r"type\(opt\) was Adadelta, and is SGD now"):
        train(checkpoint, optimizer=adadelta)


def test_a_finished_run_is_not_prolonged(tmp_path):
    """Its learning rate has fallen to where more epochs would teach it nothing."""
    train(tmp_path / "checkpoint.pt", epochs=2)
    with pytest.raises(ValueError, match="epochs was 2, and is 4 now"):
        train(tmp_path / "checkpoint.pt", epochs=4)


def test_a_checkpoint_without_settings_is_refused_because_it_could_be_from_any_run(checkpoint):
    state = torch.load(checkpoint)
    del state["settings"]
    torch.save(state, checkpoint)
    with pytest.raises(ValueError, match="an earlier version saved it, without its settings"):
        train(checkpoint)


def test_equal_settings_have_equal_descriptions_in_every_process():
    """They contain nothing that changes from process to process, such as an address."""
    settings = [*configs.ESTIMATORS.values(), *OPTIMIZERS.values(), peak, object(), Disturbed]
    described = [training._described(value) for value in settings]
    assert len({*described}) == len(described)
    assert not [text for text in described if "0x" in text]
    again = reparameterized(functools.partial(bounds.miwae, m=4))
    assert training._described(again) == training._described(configs.ESTIMATORS["miwae-4"])


# The history.


@pytest.mark.parametrize("check_every", [1, 3, 50])
def test_the_history_holds_means_over_images(monkeypatch, check_every):
    """The model does not change here, and the last batch is a third of the size of the others."""
    monkeypatch.setattr(training, "CHECK_EVERY", check_every)
    with seeded(0):
        model, batches = toy_model(), toy_batches("none")
        rows = training.fit(model, batches, analytic_kl, epochs=2, optimizer=frozen)
        q = model.posterior(batches.images.x)
    kl = (q.mean**2 + q.variance - 1) / 2 - q.stddev.log()
    for epoch, row in enumerate(rows, 1):
        assert row["epoch"] == epoch
        assert row["kl_z"] == pytest.approx(kl[:, :3].sum(-1).mean().item(), rel=1e-5)
        assert row["kl_u"] == pytest.approx(kl[:, 3:].sum(-1).mean().item(), rel=1e-5)
        assert row["bound"] == pytest.approx(-row["recon"] - row["kl_z"] - row["kl_u"], rel=1e-5)
        assert row["seconds"] > 0


def frozen(model, epochs, batches):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    return optimizer, torch.optim.lr_scheduler.ConstantLR(optimizer)


def test_the_history_logs_the_bound_that_is_trained():
    # With the same draws, the IWAE bound lies above the ELBO.
    with torch.no_grad(), seeded(0):
        model, batches = toy_model(), toy_batches("none")
        log_w = torch.cat([model.particles(x, 5).log_w for x in batches], 1)
    for bound in (bounds.elbo, bounds.iwae):
        with seeded(0):
            (row,) = training.fit(
                toy_model(),
                batches,
                reparameterized(bound),
                k=5,
                epochs=1,
                optimizer=frozen,
            )
        assert row["bound"] == pytest.approx(bound(log_w).mean().item(), rel=1e-5)


@pytest.mark.parametrize(
    ("optimizer", "rates"),
    [
        # The study's: (1 - epoch / 50)^0.9, so 1, 0.98^0.9, ..., 0.5^0.9, ..., 0.02^0.9.
        (training.adadelta, {1: 1.0, 2: 0.98198, 26: 0.53589, 50: 0.029575}),
        (training.adam, {1: 1e-3, 2: 1e-3, 26: 1e-3, 50: 1e-3}),
        (functools.partial(training.adam, peak=3e-3), {1: 3e-3, 50: 3e-3}),
    ],
)
def test_every_step_of_an_epoch_has_the_learning_rate_of_the_recipe(optimizer, rates):
    used, watched = watch(optimizer)
    _, history = train(epochs=50, optimizer=watched)
    logged = [row["learning_rate"] for row in history]
    assert used == [rate for rate in logged for _ in range(BATCHES)]
    assert min(logged) > 0  # the last epoch still learns
    for epoch, rate in rates.items():
        assert logged[epoch - 1] == pytest.approx(rate, rel=1e-4)


def watch(optimizer):
    """A list of the learning rates that the steps use, and the optimizer that fills it."""
    used = []

    def watched(model, epochs, batches):
        opt, schedule = optimizer(model, epochs, batches)
        opt.register_step_pre_hook(lambda opt, *_: used.append(float(opt.param_groups[0]["lr"])))
        return opt, schedule

    return used, watched


@pytest.mark.parametrize("highest", [2e-3, 7e-3])
def test_one_cycle_rises_for_a_tenth_of_the_steps_and_then_falls_to_almost_zero(highest):
    used, watched = watch(functools.partial(training.adam_one_cycle, peak=highest))
    train(epochs=10, optimizer=watched)
    assert len(used) == 10 * BATCHES
    peak = used.index(max(used))
    assert abs(peak - len(used) / 10) <= 1
    assert used[peak] == pytest.approx(highest, rel=1e-2)
    assert used[: peak + 1] == sorted(used[: peak + 1])
    assert used[peak:] == sorted(used[peak:], reverse=True)
    assert 0 < used[-1] < 0.01 * used[peak]
    halfway = used[peak + (len(used) - peak) // 2]
    assert halfway == pytest.approx(used[peak] / 2, rel=0.1)


@pytest.mark.parametrize("live", [False, True])
def test_without_a_live_display_training_prints_ten_lines(monkeypatch, capsys, live):
    monkeypatch.setattr(training, "is_live", lambda: live)
    _, history = train(epochs=20)
    lines = capsys.readouterr().out.splitlines()
    assert lines == ([] if live else [training.describe(row) for row in history[1::2]])
    assert training.describe(history[1]).startswith("epoch   2: bound ")


# Errors.


@pytest.mark.parametrize("check_every", [1, 3, 50])
def test_a_loss_that_is_not_finite_is_an_error_that_names_epoch_batch_and_terms(
    tmp_path, monkeypatch, check_every
):
    monkeypatch.setattr(training, "CHECK_EVERY", check_every)
    checkpoint, spoil = tmp_path / "checkpoint.pt", lambda x: x * float("nan")
    with pytest.raises(
        training.NonFiniteLossError,
        match=r"not finite in epoch 2, batch 3: bound = nan, recon = nan, kl_z = nan, kl_u = nan\.",
    ):
        train(checkpoint, batches=Disturbed(BATCHES + 2, spoil))
    # The last checkpoint is from before the failure.
    state = torch.load(checkpoint)
    assert [row["epoch"] for row in state["history"]] == [1]
    assert all(parameter.isfinite().all() for parameter in state["model"].values())


def test_the_error_shows_which_terms_are_finite():
    def overflowing(particles):
        return bounds.elbo(particles.log_w) - float("inf")

    with pytest.raises(
        training.NonFiniteLossError, match=r"epoch 1, batch 1: bound = -inf, recon = 1\d\.\d+, kl_z"
    ):
        train(estimator=overflowing)


# It learns.


def test_a_few_epochs_on_digits_raise_the_bound():
    images = data.load("mini", "train")[:256]
    estimators = {"elbo": analytic_kl, "iwae": reparameterized(bounds.iwae)}
    for name, estimator in itertools.product(models.MODELS, estimators):
        with seeded(0):
            model = models.build(name, hidden=(64, 64))
            batches = data.Batches(images, 32)
            history = training.fit(model, batches, estimators[estimator], k=2, epochs=3)
        first, *_, last = (row["bound"] for row in history)
        assert last > first + 50, (name, estimator)  # nats


# Warm-up.


def test_the_warm_up_raises_the_kl_weight_to_1_step_by_step():
    weights = []

    def watched(particles, kl_weight=1.0):
        if torch.is_grad_enabled():
            weights.append(float(kl_weight))
        return analytic_kl(particles, kl_weight)

    train(epochs=3, warm_up=2, estimator=watched)
    rising = [step / (2 * BATCHES) for step in range(2 * BATCHES)]
    assert weights == pytest.approx(rising + [1.0] * BATCHES)


def test_the_bound_logged_during_the_warm_up_contains_the_full_kl():
    rows = [
        train(epochs=1, warm_up=warm_up, optimizer=frozen, estimator=estimator)[1][0]
        for warm_up in (0, 5)
        for estimator in (dreg, reparameterized(bounds.iwae))
    ]
    assert [row["bound"] for row in rows] == pytest.approx([rows[0]["bound"]] * 4, rel=1e-5)


def test_a_run_killed_during_its_warm_up_resumes_with_the_kl_weight_of_its_epoch(tmp_path):
    checkpoint = tmp_path / "checkpoint.pt"
    with pytest.raises(KeyboardInterrupt):
        train(checkpoint, batches=Disturbed(BATCHES + 1, kill), warm_up=3)
    assert_same_run(train(checkpoint, seed=99, warm_up=3), train(warm_up=3))
