"""The statistics of the book's tables, on records whose answer is known."""

import dataclasses
import functools
import itertools
import json
import statistics

import pytest
import torch
from scipy import stats
from tables import base, speed, training, validation, write
from tables.base import Seeds, Table, difference, mean_sd_over_seeds

from tvae_core import results
from tvae_core.experiments import code_of
from tvae_core.recipes import DECODERS, RECIPES, RUNS
from tvae_core.study import nll_of

BASE = results.record_of("plain-vae")
code_of_run = functools.cache(lambda name: code_of(RUNS[name]))


def seeds(name: str, values: torch.Tensor, test: str = "these") -> Seeds:
    """Records of values (S, N): the NLL of N images under S seeds."""
    base = dataclasses.replace(BASE, name=name, code_hash=code_of_run(name))
    images = {**base.data, "test": {"name": "mnist", "n": values.shape[1], "sha256": test}}
    rows = enumerate(values.tolist())
    return Seeds(
        [
            dataclasses.replace(
                base, seed=i, data=images, nll=[statistics.mean(row), 0.0], nll_per_image=row
            )
            for i, row in rows
        ]
    )


@pytest.fixture
def recorded(monkeypatch):
    """Puts records in place of the repository's: recorded("plain-vae", values)."""
    found: dict[str, dict[int, Seeds]] = {}
    monkeypatch.setattr(base, "records", lambda folder: found)

    def put(name: str, values: torch.Tensor, **options: str) -> None:
        found.setdefault(name, {})[values.shape[1]] = seeds(name, values, **options)

    return put


def test_over_seeds_is_a_mean_and_the_deviation_of_runs(recorded):
    recorded("plain-vae", torch.tensor([[99.0, 101.0], [101.0, 103.0], [103.0, 105.0]]))
    assert mean_sd_over_seeds("plain-vae") == "102.00 ± 2.00"
    assert mean_sd_over_seeds("tps-vae") == base.UNKNOWN


def test_latents_in_use_are_counted_for_each_seed(recorded):
    recorded("plain-vae", torch.tensor([[99.0], [101.0]]))
    (group,) = base.records("records")["plain-vae"].values()
    variances = ([0.9, 0.02, 0.009, 0.0], [0.9, 0.0, 0.0, 0.0])
    kls = ([1.5, 0.09, 0.2, 0.0], [1.5, 0.11, 0.2, 0.0])
    group.records[:] = [
        dataclasses.replace(record, variance_per_latent=variance, kl_per_latent=kl)
        for record, variance, kl in zip(group.records, variances, kls, strict=True)
    ]
    summary = json.loads(write.seeds_summary())["plain-vae"]
    assert (summary["active"], summary["informative"]) == ([2, 1], [2, 3])


def test_one_seed_has_no_deviation(recorded):
    recorded("plain-vae", torch.tensor([[99.0, 101.0]]))
    assert mean_sd_over_seeds("plain-vae") == "100.00"


def test_all_seeds_are_compared_on_the_images_they_have_in_common(recorded):
    recorded("plain-vae", torch.full((1, 6), 90.0))
    recorded("plain-vae", torch.full((3, 2), 100.0))
    assert mean_sd_over_seeds("plain-vae") == "100.00 ± 0.00"


def test_a_difference_has_the_error_of_pairs_and_of_seeds(recorded):
    """Its error is the right one: over many repetitions it matches the spread of the mean."""
    generator = torch.Generator().manual_seed(0)
    n, means, errors = 200, [], []
    for _ in range(300):
        images = 30 * torch.randn(
            n, generator=generator, dtype=torch.float64
        )  # shared, so it cancels
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


def test_the_package_tells_what_the_runs_on_held_out_images_gave(recorded):
    first, other = "plain-iwae16-reparameterized", "plain-miwae16-reparameterized"
    recorded(first, torch.tensor([[99.0, 101.0], [101.0, 103.0], [103.0, 105.0]]))
    recorded(other, torch.tensor([[98.0, 100.0], [100.0, 102.0], [102.0, 104.0]]))
    told = json.loads(write.validation_summary())
    assert set(told) == {first, other}
    assert results.Validation(**told[first]).gap is None
    one = results.Validation(**told[other])
    assert (one.nll, one.base, one.images) == ([99.0, 101.0, 103.0], first, 2)
    mean, error = one.gap
    assert mean == -1
    # Each run's seeds have a variance of 4; every image has the same gap.
    assert error == pytest.approx((4 / 3 + 4 / 3) ** 0.5)
    table = validation.gradients_table()
    assert table.rows[1][1:3] == ["102.00 ± 2.00", ""]
    assert table.rows[3][1:] == ["101.00 ± 2.00", "-1.00 ± 1.63", *[base.UNKNOWN] * 2]


def test_models_measured_on_different_images_are_not_compared(recorded):
    recorded("plain-vae", torch.zeros(2, 3))
    recorded("tps-vae", torch.zeros(2, 3), test="others")
    with pytest.raises(AssertionError, match="different images"):
        difference("tps-vae", "plain-vae")


def test_a_caption_tells_the_seeds_and_names_what_is_older_than_the_code(recorded, monkeypatch):
    recorded("plain-vae", torch.zeros(3, 2))
    recorded("tps-vae", torch.zeros(2, 2))
    table = Table("NLL.", [["head"], ["row"]], ["plain-vae", "tps-vae"])
    assert table.full_caption == "NLL. Mean over 2 to 3 seeds ± their standard deviation."
    hashes = base.current_hashes
    monkeypatch.setattr(base, "current_hashes", lambda n: set() if n == "tps-vae" else hashes(n))
    assert table.full_caption.endswith("Trained by code older than the present one: `tps-vae`.")
    monkeypatch.setattr(base, "current_hashes", lambda name: set())
    assert table.full_caption.endswith("Trained by code older than the present one.")


def test_a_better_recipe_stands_beside_the_study_s_and_the_study(recorded):
    recorded("tps-iwae5", torch.tensor([[92.0, 94.0]]))
    recorded("tps-iwae5-long", torch.tensor([[84.0, 86.0], [85.0, 87.0]]))
    rows = training.recipes_table().rows
    assert rows[0][-2:] == ["modern, 50 epochs", "modern, 200 epochs"]
    (row,) = (row for row in rows if row[:2] == ["IWAE, k = 5", "thin-plate spline"])
    assert row[2:] == ["92.16", "93.00", base.UNKNOWN, "85.50 ± 0.71"]


def test_a_recipe_without_two_models_has_no_gap_to_show(recorded):
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
        record = {"data": {"n": 2}, "parts": parts}
        (tmp_path / f"ais-{model}-iwae5.json").write_text(json.dumps(record))
    table = training.annealed_table()
    assert table.rows[1] == ["`plain-iwae5`", "91.50", "0.50 ± 0.00", "91.00", ""]
    # The gap of 0.5 on four images, less the 2.5 by which importance sampling overstates it.
    error = (1 / 12 + 1 / 4) ** 0.5
    row = ["`tps-iwae5`", "92.00", "3.00 ± 0.50", "89.00", f"-2.00 ± {error:.2f}"]
    assert table.rows[2] == row
    assert "on 2 images" in table.caption


def test_the_results_page_is_right_about_the_study_s_claims():
    """Which gaps are beyond the luck of training, over twelve runs of each."""

    def ahead(a: str, b: str, field: str = "nll") -> bool:
        """Whether a is lower than b, by more than that."""
        assert len(results.over_seeds(a)) == len(results.over_seeds(b)) == 12
        gap = results.gap_over_seeds(a, b, field)
        return gap.mean < 0 and gap.beyond_luck

    for objective in ("vae", "vae-binarized", "multi5", "iwae5"):
        for model in ("affine", "tps"):
            pair = f"{model}-{objective}", f"plain-{objective}"
            assert ahead(*pair)
            assert ahead(*pair, "recon") == (objective != "iwae5")
        pair = f"tps-{objective}", f"affine-{objective}"
        assert ahead(*pair)
        assert -1.05 < results.gap_over_seeds(*pair).mean < -0.35
    for model in DECODERS:
        assert ahead(f"{model}-iwae5", f"{model}-multi5")


def test_the_results_page_is_right_about_all_test_images():
    """Each run that was measured on them came out close to where it is on fewer."""
    measured = {name: seeds for name in RUNS if (seeds := base.whole(name))}
    assert {*RECIPES["study"]} <= set(measured)
    for name, seeds in measured.items():
        few = {record.seed: record for record in base.seeds_of(name).records}
        if name in RECIPES["study"]:
            assert len(seeds.on_a_gpu()) == 5
        for on_all in seeds.records:
            on_some = few[on_all.seed]
            assert on_some.data["test"]["n"] == 2_000
            assert abs(on_all.nll[0] - on_some.nll[0]) < on_some.nll[1]
    for objective, theirs in (("vae", 86.76), ("multi5", 86.47), ("iwae5", 85.54)):
        assert 0 < statistics.mean(measured[f"plain-{objective}-long"].of("nll")) - theirs < 1


def test_the_results_page_is_right_about_a_gpu_s_runs():
    """No model comes out of it unlike out of a CPU, beyond the luck of training."""
    chances = []
    for name in itertools.chain(*(RECIPES[recipe] for recipe in ("study", "modern", "long"))):
        seeds = base.seeds_of(name)
        gpu = {record.seed: record.nll[0] for record in seeds.on_a_gpu()}
        cpu = {r.seed: r.nll[0] for r in seeds.records if r.seed not in gpu}
        assert max(cpu) < 3 <= min(gpu)
        assert len(gpu) == (9 if name in RECIPES["study"] else 5)
        if len(cpu) >= 3:
            groups = [*cpu.values()], [*gpu.values()]
            chances.append(stats.ttest_ind(*groups, equal_var=False).pvalue)
    assert len(chances) == 12 + 9 + 4  # of the nine with 200 epochs only four
    assert min(chances) > 0.05 / len(chances)  # Bonferroni


def bench(name: str) -> tuple[dict, dict]:
    """A record of `make bench`: one run on all cores, and a run on each."""
    record = speed.benchmark(name)
    return record, record["on_each_core"]


def times_faster(rows: list[dict]) -> dict[tuple, float]:
    return {(row["model"], row.get("k")): row["tutorial"] / row["tvae_core"] for row in rows}


@pytest.mark.parametrize(
    ("name", "three_times"),  # the decoders that reach it: one run, then a run on each core
    [("avx2", [{*DECODERS}, {"plain"}]), ("avx512", [{*DECODERS}, set()])],
)
def test_the_results_page_is_right_about_speed(name, three_times):
    for mode, reached in zip(bench(name), three_times, strict=True):
        times = times_faster(mode["seconds_per_epoch"])
        assert {kind for kind in DECODERS if times[kind, 1] > 3} == reached
        assert all(2 < times[kind, 1] < 4 for kind in DECODERS)
        assert all(times[kind, 5] > 2 for kind in DECODERS)
        if name == "avx2":
            assert all(times[kind, 5] < times[kind, 1] for kind in DECODERS)
        assert min(times_faster(mode["seconds_per_nll"]).values()) > 3
    one, each = (
        {row["k"]: row["share of limit"] for row in mode["seconds_per_epoch"][:2]}
        for mode in bench(name)
    )
    assert min(*each.values(), one[5]) > 0.5
    assert (one[1] > 0.5) == (name == "avx512")
    few, *megabytes = [row["tvae_core"] for row in bench(name)[0]["peak_mb"]]
    assert max(megabytes) < 1.1 * min(megabytes)
    # 100 draws do not fill a chunk: with AVX-512 that takes less. The older record was made with
    # memory of a model just freed at hand, which the arrays of a chunk went into.
    assert few < 1.1 * min(megabytes)
    assert (max(megabytes) < 1.1 * few) == (name == "avx2")


def test_the_results_page_is_right_about_the_two_processors():
    older, newer = (
        [row["tutorial"] for mode in bench(name) for row in mode["seconds_per_epoch"]]
        for name in ("avx2", "avx512")
    )
    ratios = [a / b for a, b in zip(older, newer, strict=True)]
    assert 2 < statistics.median(ratios) < 2.5
    each = bench("avx512")[1]["seconds_per_epoch"]
    times = times_faster(each)
    assert all(2.5 < times[kind, 1] < 2.7 for kind in DECODERS)
    assert (each[0]["model"], each[0]["k"]) == ("plain", 1)
    assert 3 * each[0]["share of limit"] / times["plain", 1] > 0.8
    assert 1 - each[0]["share of limit"] == pytest.approx(0.3, abs=0.02)


def test_the_results_page_is_right_about_cores_that_share_no_cache():
    rows = [row for row in bench("avx512")[0]["seconds_per_epoch"] if "apart" in row]
    times = times_faster([{**row, **row["apart"]} for row in rows])
    assert [round(extreme(times.values()), 1) for extreme in (min, max)] == [2.5, 3.5]
    (plain,) = (row for row in rows if (row["model"], row["k"]) == ("plain", 1))
    assert min(row["apart"]["tries"] for row in rows) > 3
    assert 1.5 < plain["apart"]["tvae_core"] / plain["tvae_core"] < 1.6
    assert 1.25 < plain["apart"]["tutorial"] / plain["tutorial"] < 1.3


def test_the_results_page_is_right_about_the_better_recipe():
    """It beats the study everywhere, and by most where there is no warp."""

    def nll(name: str) -> float:
        return statistics.mean(results.over_seeds(name))

    least = {"modern": 3.8, "long": 4.4}
    for model in DECODERS:
        for objective, plain in (("iwae5", 7.8), ("multi5", 11.8)):
            name = f"{model}-{objective}"
            for recipe, nats in least.items():
                assert nll_of(name) - nll(f"{name}-{recipe}") > nats
            if model == "plain":
                assert nll_of(name) - nll(f"{name}-long") == pytest.approx(plain, abs=0.1)

    def scatter(suffix: str) -> list[float]:
        return [statistics.stdev(results.over_seeds(f"{model}-{suffix}")) for model in DECODERS]

    for recipe in ("modern", "long"):
        of = {o: scatter(f"{o}-{recipe}") for o in ("vae", "multi5", "iwae5")}
        assert all(plain < min(0.1, affine) for plain, affine, _ in of.values())
        assert max(itertools.chain(*of.values())) < 0.6
        assert max(itertools.chain(*of.values())) == max(of["vae"][1], of["multi5"][1])
        assert of["vae"][1] == pytest.approx(0.5, abs=0.1)


def test_the_results_page_is_right_about_the_warp():
    """Ahead on the study's recipe by more than three standard errors, on the better one not."""
    annealed = {row[0]: row[-1].split(" ± ") for row in training.annealed_table().rows[1:]}

    def lead(name: str) -> tuple[float, float]:
        """By how much the plain model is ahead by AIS, and the standard error."""
        nats, error = map(float, annealed[f"`{name}`"])
        return nats, error

    for model, objective in itertools.product(("affine", "tps"), ("iwae5", "multi5")):
        name = f"{model}-{objective}"
        sampled = {
            recipe: base.paired_gap(f"{name}{recipe}", f"plain-{objective}{recipe}")[0]
            for recipe in ("", "-modern", "-long")
        }
        nats, error = lead(name)
        assert nats < -3 * error
        assert nats < (2 if objective == "iwae5" else 1) * sampled[""] < 0
        assert 0 < sampled["-modern"] < sampled["-long"]
        nats, error = lead(f"{name}-long")
        assert 0.3 < nats / sampled["-long"] < 0.6
        assert (nats > 3 * error) == (name != "affine-iwae5")
        if objective == "multi5":
            assert nats == pytest.approx(1.1, abs=0.25)
    assert lead("tps-iwae5-long")[0] == pytest.approx(0.75, abs=0.1)
    for objective in ("vae", "multi5", "iwae5"):
        for model, recipe in itertools.product(("affine", "tps"), ("modern", "long")):
            runs = (f"{decoder}-{objective}-{recipe}" for decoder in (model, "plain"))
            lost = results.gap_over_seeds(*runs)
            assert lost.mean > 0
            assert lost.beyond_luck
        behind = results.gap_over_seeds(f"tps-{objective}-long", f"affine-{objective}-long")
        assert behind.mean > 0
        assert behind.beyond_luck == (objective != "vae")


def test_the_page_on_ablations_is_right_about_its_choices():
    """Every choice is a gain for both models, or within two standard errors of none."""
    rows = {row[0]: row[1:] for row in validation.ablation_table().rows[2:]}
    lost = {
        (what, model): tuple(map(float, cell.split(" ± ")))
        for what, words in validation.CHOICES.items()
        for model, cell in zip(("plain", "affine"), rows[words], strict=True)
        if cell
    }
    for loss, error in lost.values():
        assert loss > -2 * error
    for what in ("adadelta", "no-warm-up"):
        assert lost[what, "plain"][0] > lost[what, "affine"][0] + 1
    for model in ("plain", "affine"):
        losses = {what: loss for (what, of), (loss, _) in lost.items() if of == model}
        assert min(losses["adadelta"], losses["lower-peak"]) > losses["constant-rate"]
        assert max(losses["zero-start"], losses["reparameterized"]) < 1
    assert min(lost["probs", "affine"][0], lost["large-pose", "affine"][0]) > 1
    for what in ("zero-start", "reparameterized"):
        for model in ("plain", "affine"):
            loss, error = lost[what, model]
            assert (loss > 2 * error) == (model == "plain")
    large, modern = (results.validated(f"affine-iwae5-{n}").nll for n in ("large-pose", "modern"))
    assert 7.5 < max(large) - statistics.mean(modern) < 8.5
    assert max(lost["border", "affine"][0], lost["small-pose", "affine"][0]) < 0.5
