"""Laws that all records of the book obey, and that a record edited by hand breaks."""

import dataclasses
import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest

from tvae_core import diagnostics, models
from tvae_core.evaluation import Estimate
from tvae_core.experiments import PROFILES, archive, results
from tvae_core.experiments.configs import DECODERS, HELD_OUT, PAPER_ON_CPU, RECIPES, RUNS
from tvae_core.experiments.records import Machine, RunRecord, versions

DIM_Z = {name: models.build(name).dim_z for name in DECODERS}


# Laws of each record.


def the_config_is_that_of_the_run(r: RunRecord) -> bool:
    run, profile = RUNS[r.name], PROFILES[r.profile]
    size = {"size": [28, 28], "nll_samples": profile.nll_samples}
    return r.config == {**run.settings(), **size, "epochs": run.epochs(profile.epochs)}


def the_profile_is_that_of_the_recipe(r: RunRecord) -> bool:
    """Runs are compared and chosen on held-out images, all others are measured on test images."""
    recipes = {recipe for recipe, runs in RECIPES.items() if r.name in runs}
    return bool(recipes & {*HELD_OUT} if r.profile == "validation" else recipes - {*HELD_OUT})


def the_data_are_those_of_the_profile(r: RunRecord) -> bool:
    profile, train, test = PROFILES[r.profile], r.data["train"], r.data["test"]
    sizes = {profile.n_test} | ({PAPER_ON_CPU.n_test} if r.profile == "paper" else set())
    seen = "mnist, binarized with seed 0" if r.binary else "mnist"
    named = (train["name"], test["name"]) == ("mnist", seen)
    return named and train["n"] == profile.n_train and test["n"] in sizes


def losses_are_the_means_of_those_of_the_images(r: RunRecord) -> bool:
    """Up to the rounding of each image's loss to 0.001, which is uniform: six standard errors."""
    n = r.data["test"]["n"]
    pairs = (r.nll, r.nll_per_image), (r.recon, r.recon_per_image)
    return all(
        len(values) == n and abs(np.mean(values) - loss.mean) < 6 * 1e-3 / (12 * n) ** 0.5
        for loss, values in pairs
    )


def standard_errors_are_those_of_the_images(r: RunRecord) -> bool:
    pairs = (r.nll, r.nll_per_image), (r.recon, r.recon_per_image)
    return all(
        math.isclose(np.std(values, ddof=1) / len(values) ** 0.5, loss.se, rel_tol=1e-5)
        for loss, values in pairs
    )


def kls_are_the_sums_of_those_of_the_latents(r: RunRecord) -> bool:
    """Up to the rounding of each latent's KL to 0.0001. The plain model has no u.

    After a second look the KL of z is a mean over draws of u, which are others for the two fields.
    """
    dim_z = DIM_Z[RUNS[r.name].model]
    drawn = 0.02 if RUNS[r.name].look else 0
    parts = (r.kl_z, r.kl_per_latent[:dim_z], drawn), (r.kl_u, r.kl_per_latent[dim_z:], 0)
    return all(
        abs(math.fsum(kls) - kl.mean) <= len(kls) * 0.5e-4 + draws
        and min(kls, default=0) >= 0
        and (kl.se > 0) == bool(kls)
        for kl, kls, draws in parts
    )


def a_latent_that_varies_is_informative(r: RunRecord) -> bool:
    """KL >= (variance of the mean) / 2, up to rounding: q's mean costs half its square."""
    pairs = zip(r.variance_per_latent, r.kl_per_latent, strict=True)
    return all(0 <= variance <= 2 * kl + 2e-4 for variance, kl in pairs)


def more_draws_give_a_lower_nll_and_the_last_is_the_nll(r: RunRecord) -> bool:
    falling = all(a > b for a, b in zip(r.nll_at, r.nll_at[1:], strict=False))
    at_one = r.recon.mean + r.kl_z.mean + r.kl_u.mean  # with one draw the bound is the ELBO
    return falling and r.nll_at[-1] == r.nll.mean and abs(r.nll_at[0] - at_one) < 1


def the_numbers_of_draws_end_at_the_profiles(r: RunRecord) -> bool:
    n = PROFILES[r.profile].nll_samples
    return r.nll_ks == [*(k for k in (1, 2, 5, *diagnostics.KS[3:]) if k < min(n, 5_000)), n]


def the_ess_and_the_error_of_the_nll_belong_together(r: RunRecord) -> bool:
    """The squared error of an image's NLL is 1/ESS, and few images have a much lower ESS."""
    error = r.nll_mc_se * r.data["test"]["n"] ** 0.5 * r.ess_median**0.5
    return 1 < r.ess_median <= r.nll_ks[-1] and 1 <= error < 2


def curves_have_a_row_for_each_epoch(r: RunRecord) -> bool:
    epochs = list(range(1, r.config["epochs"] + 1))
    return [row["epoch"] for row in r.curves] == epochs and {*r.curves[0]} == {*archive.CURVES}


def the_bound_is_the_elbo_or_above_it(r: RunRecord) -> bool:
    """Above it for every other objective; an ELBO with sampled KL varies by less than 0.1."""
    above = [row["bound"] + row["recon"] + row["kl_z"] + row["kl_u"] for row in r.curves]
    if r.config["objective"] in ("vae", "multi"):
        return max(map(abs, above)) < 0.1
    return min(above) > 0.1


def training_took_the_time_of_its_epochs(r: RunRecord) -> bool:
    """Seeds side by side share it; evaluation has its own time."""
    epochs = [row["seconds"] for row in r.curves]
    mine = math.fsum(epochs) / r.machine.side_by_side
    took = r.seconds["train"]
    positive = min(*epochs, *r.seconds.values()) > 0
    return positive and math.isclose(mine, took, rel_tol=1e-9) and len(r.seconds) == 2


def the_machine_is_possible(r: RunRecord) -> bool:
    m = r.machine
    if m.device == "CPU":
        return (m.threads or 0) >= 1 and m.workers == m.side_by_side == 1
    return m.threads is None and "NVIDIA" in m.device and min(m.workers, m.side_by_side) >= 1


def the_code_and_its_packages_are_known(r: RunRecord) -> bool:
    hexadecimal = len(r.fingerprint) == 16 and set(r.fingerprint) <= set("0123456789abcdef")
    return hexadecimal and set(r.versions) == set(versions())


LAWS: list[Callable[[RunRecord], bool]] = [
    the_config_is_that_of_the_run,
    the_profile_is_that_of_the_recipe,
    the_data_are_those_of_the_profile,
    losses_are_the_means_of_those_of_the_images,
    standard_errors_are_those_of_the_images,
    kls_are_the_sums_of_those_of_the_latents,
    a_latent_that_varies_is_informative,
    more_draws_give_a_lower_nll_and_the_last_is_the_nll,
    the_numbers_of_draws_end_at_the_profiles,
    the_ess_and_the_error_of_the_nll_belong_together,
    curves_have_a_row_for_each_epoch,
    the_bound_is_the_elbo_or_above_it,
    training_took_the_time_of_its_epochs,
    the_machine_is_possible,
    the_code_and_its_packages_are_known,
]


# Laws of all records together.


def training_of(r: RunRecord) -> tuple[str, str, int]:
    """What identifies a trained model."""
    return r.name, r.profile, r.seed


def different(values: Iterable[Iterable[Any]]) -> bool:
    found = list(map(tuple, values))
    return len(set(found)) == len(found)


def grouped(records: Iterable[RunRecord], key: Callable, value: Callable) -> dict[str, set[str]]:
    """The different values in each group of records."""
    groups: dict[str, set[str]] = {}
    for r in records:
        groups.setdefault(repr(key(r)), set()).add(repr(value(r)))
    return groups


def no_two_records_are_equal(records: list[RunRecord]) -> bool:
    """Neither in their key nor in anything measured."""
    measured = ("nll", "recon", "kl_z", "nll_at", "nll_per_image", "recon_per_image")
    keys = different(map(archive.key_of, records))
    return keys and all(different(getattr(r, name) for r in records) for name in measured)


def each_model_was_trained_once(records: list[RunRecord]) -> bool:
    """Records on other test images repeat how a model was trained; no two models agree in it."""
    how = grouped(
        records,
        training_of,
        lambda r: (r.curves, r.seconds["train"], r.machine, r.fingerprint, r.data["train"]),
    )
    curves = grouped(records, training_of, lambda r: [row["bound"] for row in r.curves])
    return all(len(found) == 1 for found in how.values()) and different(curves.values())


def images_are_the_same_for_all(records: list[RunRecord]) -> bool:
    """One training set for each profile, and one test set for each profile, size and kind of
    pixels; all are different, so that no model is measured on images that it was trained on."""
    train = grouped(records, lambda r: r.profile, lambda r: r.data["train"]["sha256"])
    test = grouped(
        records,
        lambda r: (r.profile, r.data["test"]["n"], r.binary),
        lambda r: r.data["test"]["sha256"],
    )
    sets = [*train.values(), *test.values()]
    return len(sets) == 7 and all(len(found) == 1 for found in sets) and different(sets)


def seeds_side_by_side_share_their_seconds(records: list[RunRecord]) -> bool:
    stacks = grouped(
        (r for r in records if r.machine.side_by_side > 1),
        lambda r: (r.name, r.machine.side_by_side, [row["seconds"] for row in r.curves]),
        lambda r: r.seed,
    )
    return len(stacks) > 20 and all(f", {len(seeds)}, [" in key for key, seeds in stacks.items())


def equal_schedules_give_equal_rates(records: list[RunRecord]) -> bool:
    options = ("optimizer", "peak", "batch_size", "epochs")
    rates = grouped(
        records,
        lambda r: (r.profile, [r.config.get(name) for name in options]),
        lambda r: [row["learning_rate"] for row in r.curves],
    )
    return len(rates) == 8 and all(len(found) == 1 for found in rates.values())


def a_run_behaves_in_one_way(records: list[RunRecord]) -> bool:
    """All seeds of a run were trained by code with the same fingerprint, and no two runs share one
    unless their configs are equal."""
    by_run = grouped(records, lambda r: r.name, lambda r: r.fingerprint)
    by_print = grouped(records, lambda r: r.fingerprint, lambda r: RUNS[r.name])
    return all(len(found) == 1 for found in [*by_run.values(), *by_print.values()])


LAWS_OF_ALL: list[Callable[[list[RunRecord]], bool]] = [
    no_two_records_are_equal,
    each_model_was_trained_once,
    images_are_the_same_for_all,
    seeds_side_by_side_share_their_seconds,
    equal_schedules_give_equal_rates,
    a_run_behaves_in_one_way,
]


def broken(record: RunRecord) -> set[str]:
    return {law.__name__ for law in LAWS if not law(record)}


@pytest.fixture(scope="module")
def records() -> list[RunRecord]:
    return results.all_records()


def test_every_record_obeys_every_law(records):
    assert len(records) == 520
    assert not {archive.key_of(r): laws for r in records if (laws := broken(r))}
    assert not [law.__name__ for law in LAWS_OF_ALL if not law(records)]


def test_a_shipped_record_is_that_of_seed_0_of_the_run_it_is_named_after():
    for name in results.recorded():
        record = results.record_of(name)
        assert training_of(record) == (name, "paper", 0)


# Records edited by hand.


def edited(value: Any, keys: list[Any], change: Callable[[Any], Any]) -> Any:
    """A copy in which the part at the given keys, indices or fields is changed."""
    if not keys:
        return change(value)
    key, *rest = keys
    if isinstance(value, list):
        at = key % len(value)
        return [*value[:at], edited(value[at], rest, change), *value[at + 1 :]]
    if isinstance(value, dict):
        return {**value, key: edited(value.get(key), rest, change)}
    part = edited(getattr(value, key), rest, change)
    if isinstance(value, Estimate):
        return value._replace(**{key: part})
    return dataclasses.replace(value, **{key: part})


def to(value: Any) -> Callable[[Any], Any]:
    return lambda _: value


def by(step: float) -> Callable[[Any], Any]:
    return lambda value: value + step


# Each is a place in a record, and what happens there.
DOCTORED = [
    ("name", to("tps-iwae5")),
    ("name", to("affine-iwae5-long")),
    ("profile", to("validation")),
    ("profile", to("reader")),
    *((f"config.{name}", to("another")) for name in RUNS["affine-iwae5"].settings()),
    ("config.size", to([32, 32])),
    ("config.epochs", by(1)),
    ("config.nll_samples", by(1)),
    ("config.peak", to(0.1)),
    ("config.estimator", to("dreg")),
    ("data.train.n", by(-1)),
    ("data.train.name", to("fashion-mnist")),
    ("data.test.n", by(-1)),
    ("data.test.name", to("mnist")),
    ("fingerprint", to("")),
    ("versions", to({})),
    ("machine", to(Machine("CPU", 1))),
    ("machine.device", to("CPU")),
    ("machine.threads", to(1)),
    ("machine.side_by_side", by(1)),
    ("seconds.train", by(1)),
    ("seconds.evaluate", to(0)),
    ("curves.7.seconds", by(1)),
    ("curves.7.epoch", by(1)),
    ("curves.7.bound", by(-30)),
    ("curves", lambda rows: rows[:-1]),
    *((f"{name}.mean", by(0.01)) for name in ("recon", "kl_z", "kl_u", "nll")),
    *((f"{name}.se", by(0.001)) for name in ("recon", "nll")),
    *((f"{name}.se", to(0)) for name in ("kl_z", "kl_u")),
    ("nll_mc_se", lambda error: error * 2),
    ("nll_ks.3", by(1)),
    ("nll_ks", lambda ks: ks[:-1]),
    ("nll_at.-1", by(0.01)),
    ("nll_at.3", by(2)),
    ("nll_at.0", by(2)),
    ("ess_median", lambda ess: ess * 4),
    ("nll_per_image.5", by(1)),
    ("recon_per_image.5", by(1)),
    ("nll_per_image", lambda values: values[:-1]),
    ("recon_per_image", lambda values: values[:-1]),
    ("kl_per_latent.0", by(0.01)),
    ("kl_per_latent.59", by(0.01)),
    ("variance_per_latent", lambda values: values[::-1]),
]


def test_a_record_edited_by_hand_breaks_a_law(records, subtests):
    whole = next(
        r
        for r in records
        if (r.name, r.data["test"]["n"], r.machine.side_by_side) == ("affine-iwae5", 2000, 5)
    )
    assert not broken(whole)
    noticed = set()
    for place, change in DOCTORED:
        with subtests.test(place):
            keys = [int(k) if k.lstrip("-").isdigit() else k for k in place.split(".")]
            laws = broken(edited(whole, keys, change))
            assert laws
            noticed |= laws
    assert noticed == {law.__name__ for law in LAWS}
    fields = {place.partition(".")[0] for place, _ in DOCTORED}
    assert fields == {field.name for field in dataclasses.fields(RunRecord)} - {"seed"}


# Changes that leave a record plausible on its own: a place in it, what happens there, and the law
# of all records that notices.
AMONG_ALL = [
    ("seed", by(1), no_two_records_are_equal),
    ("seed", by(100), each_model_was_trained_once),
    ("machine.workers", by(1), each_model_was_trained_once),
    ("data.train.sha256", to("0"), images_are_the_same_for_all),
    ("data.test.sha256", to("0"), images_are_the_same_for_all),
    ("curves.7.learning_rate", by(1e-6), equal_schedules_give_equal_rates),
    ("curves.7.bound", by(1e-6), each_model_was_trained_once),
    ("curves.7.seconds", by(1e-6), seeds_side_by_side_share_their_seconds),
    ("fingerprint", to("0123456789abcdef"), a_run_behaves_in_one_way),
]


def test_a_record_that_does_not_fit_the_others_breaks_a_law(records, subtests):
    keys = [archive.key_of(r) for r in records]
    at = keys.index(("affine-iwae5", "paper", 3, 10_000))
    for place, change, law in AMONG_ALL:
        with subtests.test(place, law=law):
            parts = [int(key) if key.isdigit() else key for key in place.split(".")]
            assert not law(edited(records, [at, *parts], change))
    assert {law for _, _, law in AMONG_ALL} == {*LAWS_OF_ALL}
    copied = dataclasses.replace(records[at], seed=100)
    assert not no_two_records_are_equal([*records, copied])
    one_missing = [r for r in records if training_of(r) != training_of(records[at])]
    assert not seeds_side_by_side_share_their_seconds(one_missing)
