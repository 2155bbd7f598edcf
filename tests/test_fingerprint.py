"""The fingerprint of behaviour: every setting of a config reaches it, and it is repeatable.

Tables say below their captions which records have another fingerprint than today's code, and
`test_book` compares the tables. So a change of the wiring from a config to its numbers is noticed.
tests/slow/test_fingerprint_of_source.py edits the source.
"""

import dataclasses
import json

import pytest
import torch

from tvae_core.experiments import fingerprint, measure, results, runner
from tvae_core.experiments.configs import Config
from tvae_core.experiments.kinds import KINDS

BASE = Config("affine", "iwae", 2, "dynamic", 100, "adam-one-cycle", 3e-3)
CHANGES = [
    {"model": "tps"},
    {"objective": "multi"},
    {"k": 3},
    {"binarization": "none"},
    {"batch_size": 128},
    {"optimizer": "adam"},
    {"peak": 2e-3},
    {"estimator": "dreg"},
    {"warm_up": 3},
    {"start": "mean"},
    {"resample": "logits"},
    {"padding": "border"},
    {"pose_std": 0.2},
    {"look": "straight"},
    {"encoder_width": 100},
    {"bounded": False},
    {"stretch": 2},
]


@pytest.fixture(scope="module")
def of_base() -> str:
    return runner.fingerprint(BASE)


def test_every_option_of_a_config_is_tried():
    tried = {name for change in CHANGES for name in change}
    assert tried == {field.name for field in dataclasses.fields(Config)}


def test_the_refinement_of_a_splines_inverse_reaches_training(monkeypatch):
    spline = dataclasses.replace(BASE, model="tps", look="straight")
    untrained, before = runner.untrained, runner.fingerprint(spline)

    def refined(*arguments):
        model = untrained(*arguments)
        model.encoder.refine = 1
        return model

    monkeypatch.setattr(runner, "untrained", refined)
    assert runner.fingerprint(spline) != before


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_every_setting_reaches_training(of_base, change):
    assert runner.fingerprint(dataclasses.replace(BASE, **change)) != of_base


def test_only_its_own_seed_decides_a_fingerprint(of_base):
    torch.rand(3)
    state = torch.get_rng_state()
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if threads > 1 else 2)
    try:
        assert runner.fingerprint(BASE) == of_base
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_default_dtype() == torch.float32


@pytest.mark.parametrize("kind", KINDS)
def test_the_fingerprint_of_a_measurement_is_repeatable(kind):
    assert measure.fingerprint(kind) == measure.fingerprint(kind)


@pytest.mark.parametrize("kind", KINDS)
def test_the_measurements_that_ship_were_made_by_code_that_behaves_like_todays(kind):
    today = measure.fingerprint(kind)
    records = [json.loads(p.read_bytes()) for p in results.MEASURED.glob(f"{kind}-*.json")]
    assert records
    assert {record["fingerprint"] for record in records} == {today}


def test_rounding_is_too_fine_for_no_change_and_too_coarse_for_noise():
    numbers = {"loss": [1.00002, float("nan")], "name": "x", "k": 3}
    same = {"loss": [1.00002 + 1e-9, float("nan")], "name": "x", "k": 3}
    assert fingerprint.digest(numbers) == fingerprint.digest(same)
    assert fingerprint.digest(numbers) != fingerprint.digest({**numbers, "loss": [1.0002, 0.0]})
    assert fingerprint.digest([-0.0]) == fingerprint.digest([0.0])
