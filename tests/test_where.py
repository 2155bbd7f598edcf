"""Models are scored on pictures whose poses are known; records hold what their names say."""

import dataclasses
import json
import math
import types

import numpy as np
import pytest
import torch
from toy_training import toy_batches, toy_model

from tvae_core import ais, bounds, data, estimators, evaluation, models, training
from tvae_core.experiments import where
from tvae_core.experiments.where import TASKS, Task
from tvae_core.moved import Moves
from tvae_core.runtime import seeded

TINY = Task("glyphs", "affine-straight", where.FAMILY, 20, 200, 3, nll_samples=20)


@pytest.fixture(autouse=True)
def bundled(monkeypatch):
    """The bundled digits stand in for MNIST."""
    load = data.load
    monkeypatch.setattr(data, "load", lambda name, split, **_: load("mini", split))


def test_a_pair_shows_the_same_things_in_poses_of_their_own(subtests):
    for kind in ("digits", "glyphs"):
        with subtests.test(kind):
            first, second = where._pair(dataclasses.replace(TINY, pictures=kind), "cpu")
            assert torch.equal(first.labels, second.labels)
            assert not torch.equal(first.maps, second.maps)
            upright = dataclasses.replace(TINY, pictures=kind, moves=Moves())
            one, other = where._pair(upright, "cpu")
            assert torch.equal(one.pixels, other.pixels)


def test_a_model_is_not_scored_on_pictures_that_it_was_trained_on(subtests):
    for kind in ("digits", "glyphs"):
        with subtests.test(kind):
            task = dataclasses.replace(TINY, pictures=kind, moves=Moves(shift=3), n_test=100)
            train = where.pictures(task, "train", 3)
            assert len(train) == task.n_train + where.HELD_OUT
            tests = where._pair(task, "cpu")
            known = {tuple(x.flatten().tolist()) for x in train.pixels}
            new = [tuple(x.flatten().tolist()) not in known for x in tests[0].pixels]
            assert sum(new) > 98  # a letter of one face may come in nearly one pose twice


def test_seeds_change_the_poses_and_not_the_things():
    one, other = (where.pictures(TINY, "train", seed) for seed in (0, 1))
    assert torch.equal(one.labels, other.labels)
    assert not torch.equal(one.maps, other.maps)


def test_epochs_have_as_many_steps_for_few_images():
    batches = data.Batches(where.pictures(TINY, "test", 0)[:30], 10, "none")
    passes = where.Passes(batches, 4)
    seen = list(passes)
    assert len(passes) == len(seen) == 12
    total = torch.cat(seen).sum()
    assert total == pytest.approx(4 * batches.images.x.sum().item(), rel=1e-5)


def test_the_model_is_the_one_that_the_task_names(monkeypatch):
    monkeypatch.setattr(where, "STEPS", 1)
    images = where.pictures(TINY, "train", 0)
    for name, kind in {"affine": models.Encoder, "tps-straight": models.SecondLook}.items():
        model, stop, history = where.train(dataclasses.replace(TINY, model=name), images, 1)
        assert isinstance(model.encoder, kind)
        assert model.decoder.warp.bends == name.startswith("tps")
        assert len(stop.bounds) == len(history) == 1
    seen = torch.cat([stop.x])
    assert torch.equal(seen, data.binarize_fixed(images[-where.HELD_OUT :]).x)


def test_a_task_with_too_few_pictures_is_refused():
    with pytest.raises(ValueError, match=r"needs 10,500 pictures; 'mini' has 9,000"):
        where.pictures(where.TASKS["map-10000-0-plain-0"], "train", 0)


def test_ais_of_a_task_is_of_its_first_pictures(monkeypatch):
    """Here AIS finds one nat for each black pixel, and importance sampling one for each picture."""
    model, stop, first = (
        models.build("plain", where.CANVAS),
        types.SimpleNamespace(bounds=[0.0], best_round=1),
        [],
    )

    def found(of, x, *_, **__):
        assert of is model
        first.append(x)
        return types.SimpleNamespace(log_p=-x.flatten(1).sum(1))

    task = where.Annealed(
        **vars(dataclasses.replace(TINY, model="plain", probes=False)), annealed=3
    )
    history = [{"bound": -90.0, "seconds": 1.0}, {"bound": -80.0, "seconds": 2.0}]
    monkeypatch.setattr(where, "train", lambda *_: (model, stop, history))
    ones = evaluation.NLL(*[torch.ones(task.n_test)] * len(evaluation.NLL._fields))
    monkeypatch.setattr(evaluation, "nll", lambda *_: ones)
    monkeypatch.setattr(ais, "ais", found)
    record = where.run(task)
    pictures = data.binarize_fixed(where._pair(task, "cpu")[0])[:3]
    assert torch.equal(first[0], pictures.x)
    assert record["annealed"] == pictures.x.sum((1, 2, 3)).tolist()
    assert record["nll"] == [1.0] * task.n_test
    assert record["train_bounds"] == [-90.0, -80.0]
    assert record["train_seconds"] == 3
    assert "annealed" not in where.run(dataclasses.replace(TINY, model="plain", probes=False))


class Scripted(where.EarlyStop):
    """Held-out bounds that are known beforehand; notes the weights after each round."""

    script = (-5.0, -3.0, -4.0, -3.0, -3.5, -2.0)

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.seen = []

    def bound(self):
        self.seen.append({name: t.clone() for name, t in self.model.state_dict().items()})
        return self.script[len(self.bounds)]


@pytest.mark.parametrize(
    ("patience", "rounds", "best"), [(1, 3, 2), (2, 4, 2), (3, 5, 2), (4, 6, 6)]
)
def test_training_ends_after_some_rounds_without_a_better_bound(patience, rounds, best):
    with seeded(0):
        model = toy_model()
        stop = Scripted(model, toy_batches().images, patience=patience)
        history = training.fit(
            model, toy_batches(), estimators.dreg, k=2, epochs=6, after_epoch=stop
        )
    stop.restore()
    assert len(history) == len(stop.bounds) == rounds
    assert stop.best_round == best
    weights = model.state_dict()
    same = [all(torch.equal(t, weights[n]) for n, t in seen.items()) for seen in stop.seen]
    assert same == [i == best for i in range(1, rounds + 1)]


def test_the_held_out_bound_is_that_of_the_model_and_always_from_the_same_noise():
    with seeded(0):
        model, images = toy_model(), toy_batches().images
        stop = where.EarlyStop(model, images)
        values = [stop.bound() for _ in range(2)]
    with torch.no_grad(), seeded(0):
        expected = bounds.iwae(model.particles(images.x, 5).log_w).mean().item()
    assert values == [pytest.approx(expected, abs=1e-5)] * 2


def test_a_complete_task_is_not_measured_again(tmp_path, monkeypatch):
    name = "scores-glyphs-none-0"
    monkeypatch.setitem(TASKS, name, dataclasses.replace(TASKS[name], n_test=300))
    record = where.complete(name, tmp_path)
    monkeypatch.setattr(where, "run", lambda *_: pytest.fail("measured again"))
    assert where.complete(name, tmp_path) == json.loads(json.dumps(record))
    assert where.records(tmp_path) == {name: where.complete(name, tmp_path)}


def test_a_record_of_other_settings_is_refused(tmp_path, monkeypatch):
    name = "scores-glyphs-none-0"
    monkeypatch.setitem(TASKS, name, dataclasses.replace(TASKS[name], n_test=300))
    where.complete(name, tmp_path)
    monkeypatch.setitem(TASKS, name, dataclasses.replace(TASKS[name], n_test=301))
    with pytest.raises(ValueError, match="other settings; delete it"):
        where.complete(name, tmp_path)
    (tmp_path / f"{name}.json").write_text('{"name":', encoding="utf-8")
    with pytest.raises(ValueError, match="damaged; delete it"):
        where.complete(name, tmp_path)


def test_the_estimates_at_a_corner_are_of_the_same_pictures(monkeypatch):
    record = {"nll": [90.0, 80.0, 100.0, 500.0], "annealed": [89.0, 78.0, 97.0]}
    monkeypatch.setattr(where, "records", lambda: {"corner-500-0-plain-0": record})
    sampled, by_ais = where.annealed(500, 0, "plain")
    assert sampled.tolist() == [90.0, 80.0, 100.0]
    assert by_ais.tolist() == [89.0, 78.0, 97.0]
    assert where.annealed(500, 180, "plain") is None


def test_an_unknown_task_is_an_error_that_names_a_known_one(capsys):
    with pytest.raises(SystemExit):
        where.main(["scores-digits-afine-0"])
    assert "unknown task 'scores-digits-afine-0'" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["x", "scores-digits-plain-0", None])
def test_a_model_whose_weights_do_not_ship_is_an_error_that_names_those_that_do(name):
    ships = ", ".join(where.WITH_WEIGHTS)
    with pytest.raises(ValueError, match=f"{name!r} ships no weights; load one of {ships}"):
        where.load(name)


@pytest.fixture
def known_map(monkeypatch):
    """The plain model gains ten nats with every doubling, on digits turned by up to 90 degrees less
    and less."""

    def nlls(mean):
        return [mean - 1.0, mean + 1.0] * 50

    cells = {f"map-{n}-0-plain-0": nlls(130 - 10 * math.log2(n / 500)) for n in where.SIZES[:3]}
    cells |= {f"map-{n}-90-plain-0": nlls(bending(n)) for n in where.SIZES[:3]}
    cells |= {
        "map-500-0-affine-0": nlls(120.0),
        "map-2000-0-affine-0": nlls(105.0),
        "map-10000-0-affine-0": nlls(95.0),
        "map-2000-0-affine-straight-0": nlls(80.0),
        "map-500-45-affine-0": nlls(120.0),
        "map-500-90-affine-0": nlls(bending(4_500)),
    }
    monkeypatch.setattr(
        where, "records", lambda: {name: {"nll": values} for name, values in cells.items()}
    )


def bending(n):
    return 100 + 30 * (n / 500) ** -0.7


def test_a_warp_is_worth_as_many_images_as_bring_the_plain_model_to_its_nll(known_map):
    for n, factor in {500: 2.0, 2_000: 2**0.5}.items():
        worth = where.worth(n, 0, "affine")
        assert worth.factor == pytest.approx(factor)
        # The same pictures are drawn for both, so what makes a picture hard cancels in the lead.
        assert (worth.low, worth.high) == pytest.approx((factor, factor))


def test_a_curve_that_bends_is_interpolated_as_one(known_map):
    """With straight lines 9 would come out as 11."""
    assert where.worth(500, 90, "affine").factor == pytest.approx(9, rel=0.1)


def test_a_warp_that_the_plain_model_never_reaches_has_no_finite_worth(known_map):
    worth = where.worth(2_000, 0, "affine-straight")
    assert worth.factor == float("inf")
    assert str(worth) == "more than 5"
    assert str(where.worth(500, 0, "affine")) == "2.0 (2.0 to 2.0)"


def test_a_worth_needs_the_plain_model_with_more_images(known_map):
    assert where.worth(10_000, 0, "affine") is None
    assert where.worth(500, 45, "affine") is None
    assert where.worth(2_000, 45, "affine") is None


def test_the_range_of_a_worth_is_that_of_resampled_pictures(known_map, monkeypatch):
    cells = where.records()
    rng = torch.Generator().manual_seed(0)
    noise = torch.randn(100, generator=rng).double()
    noise *= 20 / noise.std()  # of mean about 0; a standard error of 2 nats, 0.2 doublings
    cells["map-500-0-affine-0"]["nll"] = (120 + noise - noise.mean()).tolist()
    monkeypatch.setattr(where, "records", lambda: cells)
    worth = where.worth(500, 0, "affine")
    assert worth.factor == pytest.approx(2.0)
    assert worth.low == pytest.approx(2 * 2**-0.2, rel=0.04)
    assert worth.high == pytest.approx(2 * 2**0.2, rel=0.04)


def test_the_range_of_a_worth_is_that_of_several_runs(known_map, monkeypatch):
    cells = where.records()
    for seed, mean in enumerate((118.0, 120.0, 122.0)):
        cells[f"map-500-0-affine-{seed}"] = {"nll": [mean] * 100}
    monkeypatch.setattr(where, "records", lambda: cells)
    worth = where.worth(500, 0, "affine")
    assert worth.factor == pytest.approx(2.0)
    error = 2 / math.sqrt(3) / 10  # in doublings, of which each is worth ten nats
    assert worth.low == pytest.approx(2 * 2**-error, rel=0.04)
    assert worth.high == pytest.approx(2 * 2**error, rel=0.04)


def test_the_posterior_over_the_turn_is_recorded(monkeypatch, tmp_path):
    few = dataclasses.replace(TASKS[where.MODES], distributions=4, chains=2)
    monkeypatch.setitem(TASKS, where.MODES, few)
    record = where.complete(where.MODES, tmp_path)
    assert where.complete(where.MODES, tmp_path) == record
    found = {name: torch.tensor(values) for name, values in record["modes"].items()}
    assert found["log_p"].shape == found["se"].shape == (4, 10)
    assert found["degrees"].shape == (20 * 2, 4, 10)
    assert found["degrees"].abs().max() <= 180
    assert "modes-0, " in where.summary(record)


RECORDS = where.records()


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_is_what_its_name_says(name):
    record, task = RECORDS[name], TASKS[name]
    assert record["name"] == name
    assert record["task"] == json.loads(json.dumps(dataclasses.asdict(task)))
    assert record["fingerprint"] == where.fingerprint()
    if isinstance(task, where.Modes):
        assert {name: np.shape(values) for name, values in record["modes"].items()} == {
            "log_p": (4, task.n_test),
            "se": (4, task.n_test),
            "degrees": (20 * task.chains, 4, task.n_test),
        }
        return
    assert record["data"]["test"]["n"] == task.n_test
    if task.model != where.ABSENT:
        poses_of_each = where.COPIES if task.model.endswith("augmented") else 1
        assert record["data"]["train"]["n"] == task.n_train * poses_of_each + where.HELD_OUT
        assert len(record["nll"]) == min(task.n_test, where.N_NLL)
        assert record["bounds"][record["best_round"] - 1] == max(record["bounds"])
        assert len(record["bounds"]) in (where.ROUNDS, record["best_round"] + where.PATIENCE)
        # Some records are older than this field.
        assert len(record.get("train_bounds", record["bounds"])) == len(record["bounds"])
        # The bound of five draws lies below the log-likelihood, here of other pictures of the kind.
        assert max(record["bounds"]) < -sum(record["nll"]) / len(record["nll"]) + 8
    assert ("moves" in record) == (not task.model.startswith("plain"))
    assert ("contents" in record) == task.probes
