"""The statistics of the book's tables, on records with a known answer."""

import dataclasses
import functools
import json
import statistics

import pytest
import torch
from tables import base, speed, training, write
from tables.base import Seeds, Table, difference, mean_sd_over_seeds

from tvae_core.evaluation import Estimate
from tvae_core.experiments import results, runner
from tvae_core.experiments.configs import DECODERS, RUNS

BASE = results.record_of("plain-vae")
fingerprint = functools.cache(lambda name: runner.fingerprint(RUNS[name]))


def seeds(name: str, values: torch.Tensor, test: str = "these") -> Seeds:
    """Records with the NLL of N images under S seeds, given as (S, N)."""
    base = dataclasses.replace(BASE, name=name, fingerprint=fingerprint(name))
    images = {**base.data, "test": {"name": "mnist", "n": values.shape[1], "sha256": test}}
    rows = enumerate(values.tolist())
    return Seeds(
        [
            dataclasses.replace(
                base,
                seed=i,
                data=images,
                nll=Estimate(statistics.mean(row), 0.0),
                nll_per_image=row,
            )
            for i, row in rows
        ]
    )


@pytest.fixture
def recorded(monkeypatch):
    """A function that adds a run to the records that tables read: recorded("plain-vae", values)."""
    found: dict[str, dict[int, Seeds]] = {}
    monkeypatch.setattr(base, "records", lambda profile: found)

    def put(name: str, values: torch.Tensor, **options: str) -> None:
        found.setdefault(name, {})[values.shape[1]] = seeds(name, values, **options)

    return put


def test_over_seeds_a_table_shows_the_mean_and_the_standard_deviation(recorded):
    recorded("plain-vae", torch.tensor([[99.0, 101.0], [101.0, 103.0], [103.0, 105.0]]))
    assert mean_sd_over_seeds("plain-vae") == "102.00 ± 2.00"
    assert mean_sd_over_seeds("tps-vae") == base.UNKNOWN


def test_active_and_informative_latents_are_counted_for_each_seed(recorded):
    recorded("plain-vae", torch.tensor([[99.0], [101.0]]))
    (group,) = base.records("paper")["plain-vae"].values()
    variances = ([0.9, 0.02, 0.009, 0.0], [0.9, 0.0, 0.0, 0.0])
    kls = ([1.5, 0.09, 0.2, 0.0], [1.5, 0.11, 0.2, 0.0])
    group.records[:] = [
        dataclasses.replace(record, variance_per_latent=variance, kl_per_latent=kl)
        for record, variance, kl in zip(group.records, variances, kls, strict=True)
    ]
    summary = json.loads(write.seeds_summary())["plain-vae"]
    assert (summary["active"], summary["informative"]) == ([2, 1], [2, 3])


def test_the_seeds_of_a_run_are_in_order_whatever_the_order_of_the_records(monkeypatch):
    forwards = results.all_records()
    for order in (forwards, forwards[::-1]):
        monkeypatch.setattr(results, "all_records", lambda order=order: order)
        for sizes in base.records.__wrapped__("paper").values():
            for group in sizes.values():
                seeds = [record.seed for record in group.records]
                assert seeds == sorted(seeds)


def test_a_single_seed_has_no_standard_deviation(recorded):
    recorded("plain-vae", torch.tensor([[99.0, 101.0]]))
    assert mean_sd_over_seeds("plain-vae") == "100.00"


def test_seeds_are_compared_on_the_images_they_have_in_common(recorded):
    recorded("plain-vae", torch.full((1, 6), 90.0))
    recorded("plain-vae", torch.full((3, 2), 100.0))
    assert mean_sd_over_seeds("plain-vae") == "100.00 ± 0.00"


def test_the_error_of_a_difference_covers_images_and_seeds(recorded):
    """Over many repetitions, it matches how much the difference really varies."""
    generator = torch.Generator().manual_seed(0)
    n, means, errors = 200, [], []
    for _ in range(300):
        # Both models see the same images, so this large term cancels.
        images = 30 * torch.randn(n, generator=generator, dtype=torch.float64)
        for name, level in (("plain-vae", 100.0), ("affine-vae", 97.0)):
            runs = 0.5 * torch.randn(3, 1, generator=generator, dtype=torch.float64)
            noise = torch.randn(n, generator=generator, dtype=torch.float64)
            recorded(name, level + images + runs + noise)
        mean, error = difference("affine-vae", "plain-vae").split(" ± ")
        means.append(float(mean))
        errors.append(float(error))
    assert statistics.mean(means) == pytest.approx(-3, abs=0.1)
    assert statistics.stdev(means) == pytest.approx(
        statistics.mean(e**2 for e in errors) ** 0.5, rel=0.15
    )


def test_the_package_reports_the_runs_on_held_out_images(recorded):
    first, other = "plain-iwae16-reparameterized", "plain-miwae16-reparameterized"
    recorded(first, torch.tensor([[99.0, 101.0], [101.0, 103.0], [103.0, 105.0]]))
    recorded(other, torch.tensor([[98.0, 100.0], [100.0, 102.0], [102.0, 104.0]]))
    summary = json.loads(write.validation_summary())
    assert set(summary) == {first, other}
    assert results.Validation(**summary[first]).gap is None
    one = results.Validation(**summary[other])
    assert (one.nll, one.base, one.images) == ([99.0, 101.0, 103.0], first, 2)
    mean, error = one.gap
    assert mean == -1
    # The seeds of either run have a variance of 4, and the gap is the same for every image.
    assert error == pytest.approx((4 / 3 + 4 / 3) ** 0.5)


def test_models_measured_on_different_images_are_not_compared(recorded):
    recorded("plain-vae", torch.zeros(2, 3))
    recorded("tps-vae", torch.zeros(2, 3), test="others")
    with pytest.raises(AssertionError, match="different images"):
        difference("tps-vae", "plain-vae")


def test_a_caption_gives_the_number_of_seeds_and_names_outdated_runs(recorded, monkeypatch):
    recorded("plain-vae", torch.zeros(3, 2))
    recorded("tps-vae", torch.zeros(2, 2))
    table = Table("NLL.", [["head"], ["row"]], ["plain-vae", "tps-vae"])
    assert table.full_caption == "NLL. Mean over 2 to 3 seeds ± their standard deviation."
    today = base.current_fingerprint
    monkeypatch.setattr(
        base, "current_fingerprint", lambda name: "other" if name == "tps-vae" else today(name)
    )
    assert table.full_caption.endswith("Trained by code that behaved differently: `tps-vae`.")
    monkeypatch.setattr(base, "current_fingerprint", lambda name: "other")
    assert table.full_caption.endswith("Trained by code that behaved differently.")


def test_a_row_shows_the_study_its_recipe_and_the_better_recipes_side_by_side(recorded):
    recorded("tps-iwae5", torch.tensor([[92.0, 94.0]]))
    recorded("tps-iwae5-long", torch.tensor([[84.0, 86.0], [85.0, 87.0]]))
    rows = training.recipes_table().rows
    assert rows[0][-2:] == ["modern, 50 epochs", "modern, 200 epochs"]
    (row,) = (row for row in rows if row[:2] == ["IWAE, k = 5", "thin-plate spline"])
    assert row[2:] == ["92.16", "93.00", base.UNKNOWN, "85.50 ± 0.71"]


def test_a_recipe_with_only_one_model_has_no_row_of_gaps(recorded):
    recorded("plain-iwae5-modern", torch.tensor([[87.0, 89.0]]))
    recorded("plain-iwae5-long", torch.tensor([[85.0, 87.0]]))
    recorded("affine-iwae5-long", torch.tensor([[84.0, 86.0]]))
    table = training.better_gaps_table()
    _, row = table.rows
    assert row == ["IWAE, k = 5, 200 epochs", "-1.00 ± 0.00", *[base.UNKNOWN] * 2]
    assert table.any_record


def test_ais_on_a_few_images_corrects_the_gap_on_many(recorded, monkeypatch, tmp_path):
    monkeypatch.setattr(training, "MEASURED", tmp_path)
    for model, nll, by_sampling, by_ais in (
        ("plain", [90.0, 92.0, 91.0, 93.0], [90.0, 92.0], [89.5, 91.5]),
        ("tps", [91.0, 92.0, 92.0, 93.0], [91.0, 92.0], [87.5, 89.5]),
    ):
        recorded(f"{model}-iwae5", torch.tensor([nll]))
        parts = [{"is_nll": [a], "ais_nll": [b]} for a, b in zip(by_sampling, by_ais, strict=True)]
        record = {"kind": "ais", "data": {"n": 2}, "parts": parts}
        (tmp_path / f"ais-{model}-iwae5.json").write_text(json.dumps(record), encoding="utf-8")
    table = training.annealed_table()
    assert table.rows[1] == ["`plain-iwae5`", "91.50", "0.50 ± 0.00", "91.00", ""]
    # The gap is 0.5 on four images, and importance sampling overstates it by 2.5.
    error = (1 / 12 + 1 / 4) ** 0.5
    row = ["`tps-iwae5`", "92.00", "3.00 ± 0.50", "89.00", f"-2.00 ± {error:.2f}"]
    assert table.rows[2] == row
    assert "on 2 images" in table.caption


def test_the_minutes_of_a_run_are_the_median_over_its_seeds(recorded):
    recorded("plain-vae", torch.tensor([[99.0, 101.0], [101.0, 103.0], [103.0, 105.0]]))
    (group,) = base.records("paper")["plain-vae"].values()
    group.records[:] = [
        dataclasses.replace(record, seconds={"train": 60.0 * minutes, "evaluate": 1.0})
        for record, minutes in zip(group.records, (18, 9, 8), strict=True)
    ]
    table = training.runs_table()
    assert table.rows[1][table.rows[0].index("minutes")] == "9"
    assert "the minutes are the median over the seeds" in table.caption


def test_the_speed_table_shows_times_and_how_many_times_as_fast():
    head, *rows = speed.speed_table().rows
    assert len(rows) == 3 * len(DECODERS)
    (row,) = (row for row in rows if row[:2] == ["training, k = 5", "affine"])
    gpu = speed.benchmark("gpu")
    (times,) = (r for r in gpu["seconds_per_epoch"] if (r["decoder"], r["k"]) == ("affine", 5))
    cell = row[head.index(gpu["processor"])].removesuffix(speed.TIMES)
    seconds, faster = cell.split(" s, ")
    assert float(seconds) == pytest.approx(times["tvae_core"], rel=0.05)
    assert float(faster) == pytest.approx(times["tutorial"] / times["tvae_core"], rel=0.05)
