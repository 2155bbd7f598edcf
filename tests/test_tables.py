"""The statistics of the book's tables, on records with a known answer, and what the pages claim."""

import dataclasses
import functools
import itertools
import json
import statistics
from collections.abc import Callable, Iterable

import matplotlib.pyplot as plt
import pytest
import torch
from scipy import stats
from tables import base, speed, training, validation, write
from tables.base import Seeds, Table, difference, mean_sd_over_seeds

from tvae_core import data, plots, warps
from tvae_core.evaluation import Estimate
from tvae_core.experiments import measure, results, runner
from tvae_core.experiments.configs import DECODERS, RECIPES, RUNS
from tvae_core.experiments.records import RunRecord
from tvae_core.experiments.study import nll_of

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


def on_a_gpu(seeds: Seeds) -> list[RunRecord]:
    """The records of the seeds that were trained on a GPU."""
    return [record for record in seeds.records if record.machine.device != "CPU"]


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
    backwards = results.all_records()[::-1]
    monkeypatch.setattr(results, "all_records", lambda: backwards)
    for sizes in base.records.__wrapped__("paper").values():
        for seeds in sizes.values():
            order = [record.seed for record in seeds.records]
            assert order == sorted(order)


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
    table = validation.gradients_table()
    assert table.rows[1][1:3] == ["102.00 ± 2.00", ""]
    assert table.rows[3][1:] == ["101.00 ± 2.00", "-1.00 ± 1.63", *[base.UNKNOWN] * 2]


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
        record = {"data": {"n": 2}, "parts": parts}
        (tmp_path / f"ais-{model}-iwae5.json").write_text(json.dumps(record))
    table = training.annealed_table()
    assert table.rows[1] == ["`plain-iwae5`", "91.50", "0.50 ± 0.00", "91.00", ""]
    # The gap is 0.5 on four images, and importance sampling overstates it by 2.5.
    error = (1 / 12 + 1 / 4) ** 0.5
    row = ["`tps-iwae5`", "92.00", "3.00 ± 0.50", "89.00", f"-2.00 ± {error:.2f}"]
    assert table.rows[2] == row
    assert "on 2 images" in table.caption


def test_the_results_page_is_right_about_the_study_s_claims():
    """It says which gaps are larger than luck explains, over twelve runs of each model."""

    def ahead(a: str, b: str, field: str = "nll") -> bool:
        """Whether a is lower than b by more than luck explains."""
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
    """On all images, every run comes out close to what it gave on fewer."""
    measured = {name: seeds for name in RUNS if (seeds := base.whole(name))}
    assert {*RECIPES["study"]} <= set(measured)
    for name, seeds in measured.items():
        few = {record.seed: record for record in base.seeds_of(name).records}
        if name in RECIPES["study"]:
            assert len(on_a_gpu(seeds)) == 5
        for on_all in seeds.records:
            on_some = few[on_all.seed]
            assert on_some.data["test"]["n"] == 2_000
            distance = abs(on_all.nll.mean - on_some.nll.mean)
            assert distance < on_some.nll.se
    for objective, theirs in (("vae", 86.76), ("multi5", 86.47), ("iwae5", 85.54)):
        assert 0 < statistics.mean(measured[f"plain-{objective}-long"].of("nll")) - theirs < 1


def test_the_results_page_is_right_that_runs_on_a_gpu_come_out_like_those_on_a_cpu():
    """For no model do the two differ by more than luck explains."""
    chances = []
    for name in itertools.chain(*(RECIPES[recipe] for recipe in ("study", "modern", "long"))):
        seeds = base.seeds_of(name)
        gpu = {record.seed: record.nll.mean for record in on_a_gpu(seeds)}
        cpu = {r.seed: r.nll.mean for r in seeds.records if r.seed not in gpu}
        assert max(cpu) < 3 <= min(gpu)
        assert len(gpu) == (9 if name in RECIPES["study"] else 5)
        if len(cpu) >= 3:
            groups = [*cpu.values()], [*gpu.values()]
            chances.append(stats.ttest_ind(*groups, equal_var=False).pvalue)
    assert len(chances) == 12 + 9 + 4  # only four of the nine models with 200 epochs
    assert min(chances) > 0.05 / len(chances)  # Bonferroni


def prose(page: str) -> str:
    """A page of the book, on one line."""
    return " ".join((base.ROOT / "book" / f"{page}.md").read_text().split())


def test_the_glossary_is_right_about_the_colour_of_a_pixel():
    assert "each pixel black with a probability equal to its gray value" in prose("glossary")
    paper, ink = (data.from_tensor(torch.full((1, 1, 2, 2), gray)) for gray in (0.0, 1.0))
    assert (data.binarize_fixed(paper).x.sum(), data.binarize_fixed(ink).x.sum()) == (0, 4)
    assert [plt.get_cmap(plots.INK)(gray)[:3] for gray in (0.0, 1.0)] == [(1, 1, 1), (0, 0, 0)]


def test_the_page_on_ablations_is_right_about_where_an_edge_is_gray():
    """An edge between ink and paper, looked at from everywhere between two pixel centres."""
    steps = 28 * 28  # as many places as a grid has
    where = torch.linspace(-1 / 28, 1 / 28, steps)  # from the centre of pixel 13 to that of 14
    grid = torch.stack([where, torch.zeros(steps)], -1).view(1, 28, 28, 2)

    def seen(ink: float, paper: float, warped: Callable[[torch.Tensor], torch.Tensor]):
        image = torch.where(torch.arange(28) < 14, ink, paper).expand(1, 1, 28, 28)
        return warps.sample(warped(image), grid).flatten()

    def gray(p: torch.Tensor) -> str:
        return f"{((p > 0.05) & (p < 0.95)).double().mean():.2f}"

    probabilities, logits = seen(13.8, -13.8, torch.sigmoid), seen(13.8, -13.8, lambda x: x)
    claim = (
        f"a mean of probabilities lies between 0.05 and 0.95 for {gray(probabilities)} of a pixel, "
        f"a mean of these logits for {gray(logits.sigmoid())}."
    )
    assert claim in prose("ablations")
    for halfway in (probabilities, logits.sigmoid()):
        assert halfway[steps // 2 - 1 : steps // 2 + 1].mean() == pytest.approx(0.5, abs=1e-3)
    # With unequal logits, the mean of probabilities is still gray halfway, that of logits is not.
    halfway = slice(steps // 2 - 1, steps // 2 + 1)
    assert seen(5.0, -13.8, torch.sigmoid)[halfway].mean() == pytest.approx(0.5, abs=0.01)
    assert seen(5.0, -13.8, lambda x: x).sigmoid()[halfway].max() < 0.05


def test_the_results_page_is_right_about_the_latents_that_the_better_recipe_uses():
    assert "two to three times as many latents to use as before" in prose("results")
    assert "the warped ones at most three more" in prose("results")
    for model, objective in itertools.product(DECODERS, ("iwae5", "multi5")):
        name = f"{model}-{objective}"
        before, modern, long = (
            statistics.mean(results.over_seeds(f"{name}{recipe}", "informative"))
            for recipe in ("", "-modern", "-long")
        )
        for now in (modern, long):
            if model == "plain":
                assert 1.8 < now / before < 3
            else:
                assert 0 < now - before < 3.25


def test_the_results_page_is_right_that_the_correction_by_ais_varies_less_than_the_nll():
    for model, objective in itertools.product(DECODERS, ("iwae5", "multi5")):
        for recipe in ("", "-long"):
            found = measure.columns(results.measured("ais", f"{model}-{objective}{recipe}"))
            assert (found["is_nll"] - found["ais_nll"]).std() < found["is_nll"].std() / 4


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


def how_fast() -> str:
    """The section of the results page about speed, on one line."""
    page = (base.ROOT / "book" / "results.md").read_text()
    return " ".join(page.partition("## How fast\n")[2].split())


def spans(numbers: Iterable[float], digits: int) -> str:
    """The least and the greatest of some numbers, as the page writes them."""
    found = list(numbers)
    return f"{min(found):.{digits}f} to {max(found):.{digits}f}"


def times_faster(measured: dict, kind: str, way: str = "tvae_core") -> list[float]:
    """How many times as fast as tutorial style, for each decoder and number of draws."""
    return [row["tutorial"] / row[way] for row in measured[kind]]


def test_the_results_page_is_right_about_speed_on_a_cpu():
    cpus = [speed.benchmark(name) for name in ("avx2", "avx512")]
    assert [cpu["cores"] for cpu in cpus] == [2, 2]
    one = [x for cpu in cpus for x in times_faster(cpu, "seconds_per_epoch")]
    each = [x for cpu in cpus for x in times_faster(cpu["on_each_core"], "seconds_per_epoch")]
    modes = [*cpus, *(cpu["on_each_core"] for cpu in cpus)]
    nll = [x for mode in modes for x in times_faster(mode, "seconds_per_nll")]
    for claim in (
        f"trains {spans(one, 1)} times as fast with one run on both cores",
        f"{spans(each, 1)} times with one run on each",
        f"computes the NLL {spans(nll, 1)} times as fast. On an H100",
    ):
        assert claim in how_fast()
    assert spans([*one, *each, *nll], 0) == "2 to 4"
    assert "is two to four times as fast" in how_fast()
    # What the page says about the two records stands in them, too.
    older, newer = (cpu["note"] for cpu in cpus)
    assert older.startswith("older than the code: the optimizer's update was not yet compiled")
    assert newer.endswith("tries in which these cores shared a cache")


def test_the_results_page_is_right_about_speed_on_a_gpu():
    gpu = speed.benchmark("gpu")
    assert "H100" in gpu["processor"]
    one = times_faster(gpu, "seconds_per_epoch")
    stacked = times_faster(gpu, "seconds_per_epoch", "side by side")
    nll = times_faster(gpu, "seconds_per_nll")
    seeds = gpu["seeds_side_by_side"]
    claim = (
        f"On an H100 it trains {spans(one, 0)} times as fast, or {spans(stacked, 0)} times per "
        f"seed with {seeds} seeds side by side, and computes the NLL {spans(nll, 0)} times as fast."
    )
    assert claim in how_fast()


def test_the_results_page_is_right_about_the_memory_of_the_nll():
    most = []
    for name in speed.PROCESSORS:
        peaks = speed.benchmark(name)["peak_mb"]
        full = [row["tvae_core"] for row in peaks if row["k"] >= 1_000]  # a chunk, or several
        assert max(full) < 1.1 * min(full)
        most += [row["tvae_core"] for row in peaks]
        last = peaks[-1]
        assert last["k"] == 50_000
        assert last["tutorial"] > 500
    assert max(most) < 15
    claim = "peaks below 15 MB even at 50,000 draws, where tutorial style needs more than 500 MB"
    assert claim in how_fast()


def trained_on_a_gpu(recipe: str) -> list[RunRecord]:
    """The records of a recipe's runs, on all test images if each model has as many of those."""
    runs = RECIPES[recipe]
    on_all = [on_a_gpu(seeds) if (seeds := base.whole(name)) else [] for name in runs]
    if len({len(found) for found in on_all}) > 1 or not on_all[0]:
        on_all = [on_a_gpu(base.seeds_of(name)) for name in runs]
    return [record for found in on_all for record in found]


def test_the_results_page_is_right_about_what_a_recipe_takes_on_a_gpu():
    took = {}
    for recipe in ("study", "modern", "long"):
        found = trained_on_a_gpu(recipe)
        ((device, workers),) = {(r.machine.device, r.machine.workers) for r in found}
        assert (device, workers) == ("NVIDIA H100 80GB HBM3", 4)
        seconds = sum(r.seconds["train"] + r.seconds["evaluate"] for r in found)
        (n,) = {record.data["test"]["n"] for record in found}
        took[recipe] = f"{seconds / 60 / workers:.0f}", len(found), f"{n:,}"
    (study, runs, images), modern, (long, *others) = took.values()
    assert list(modern[1:]) == others == [45, "2,000"]
    claim = (
        f"spent {study} minutes each on the study's recipe ({runs} runs, NLL on all {images} test "
        f"images), {modern[0]} on the modern recipe at 50 epochs and {long} at 200 "
        f"({others[0]} runs each, NLL on {others[1]} test images)"
    )
    assert claim in how_fast()


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


def test_the_results_page_is_right_about_the_better_recipe():
    """It beats the study everywhere, and by most without a warp."""

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
    """A warp is ahead by more than three standard errors on the study's recipe only."""
    annealed = {row[0]: row[-1].split(" ± ") for row in training.annealed_table().rows[1:]}

    def lead(name: str) -> tuple[float, float]:
        """How far the plain model is ahead according to AIS, and the standard error."""
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
    """Every choice is a gain for both models, or within two standard errors of no effect."""
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


def chapter(name: str) -> str:
    """The prose of a chapter, on one line."""
    notebook = json.loads((base.ROOT / "notebooks" / f"{name}.ipynb").read_text())
    prose = ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "markdown"]
    return " ".join(" ".join(prose).split())


def at_k(name: str, k: int) -> list[float]:
    """The NLL of each run of a model from its first k importance samples."""
    (group,) = [seeds for images, seeds in base.records("paper")[name].items() if images == 2_000]
    return [dict(zip(r.nll_ks, r.nll_at, strict=True))[k] for r in group.records]


def beyond_luck(a: list[float], b: list[float]) -> bool:
    return bool(stats.ttest_ind(a, b, equal_var=False).pvalue < 0.05)


def test_chapter_4_is_right_about_few_importance_samples_over_seeds():
    elbo, nll = ([at_k(f"{model}-vae", k) for model in DECODERS] for k in (1, 5_000))
    assert [len(runs) for runs in elbo] == [12] * 3
    assert not any(beyond_luck(a, b) for a, b in itertools.combinations(elbo, 2))
    means = [statistics.mean(runs) for runs in elbo]
    falls = [mean - statistics.mean(runs) for mean, runs in zip(means, nll, strict=True)]
    first, fall = ("{:.1f}, {:.1f} and {:.1f}".format(*values) for values in (means, falls))
    assert f"means at $K = 1$ are {first} nats for plain, affine and TPS" in chapter("04_tps_tvae")
    assert f"over twelve runs of each by {fall}, the most for TPS" in chapter("04_tps_tvae")
    assert max(falls) == falls[2]


def test_chapter_5_is_right_about_the_order_of_the_models_over_seeds():
    few, many = ([at_k(f"{model}-iwae5", k) for model in DECODERS] for k in (5, 5_000))
    assert [len(runs) for runs in few] == [12] * 3
    means = [[statistics.mean(runs) for runs in at] for at in (few, many)]
    first, last = ("{:.1f}, {:.1f} and {:.1f}".format(*values) for values in means)
    claim = f"the means are {first} nats for plain, affine and TPS at $K = 5$, and {last} at 5,000"
    assert claim in chapter("05_iwae")
    assert means[0] == sorted(means[0])
    assert means[1] == sorted(means[1], reverse=True)
    assert all(beyond_luck(a, b) for a, b in itertools.combinations(many, 2))


def test_chapter_5_is_right_about_what_five_draws_cost():
    ratios = []
    for name in ("avx2", "avx512"):
        cpu = speed.benchmark(name)
        for mode in (cpu, cpu["on_each_core"]):
            plain = {r["k"]: r for r in mode["seconds_per_epoch"] if r["decoder"] == "plain"}
            ratios.append(plain[5]["tvae_core"] / plain[1]["tvae_core"])
    assert spans(ratios, 0) == "2 to 3"
    claim = "an epoch with five draws takes two to three times as long as one with a single draw"
    assert claim in chapter("05_iwae")
    logged = (results.record_of(f"plain-{name}").seconds["train"] for name in ("iwae5", "vae"))
    assert next(logged) / next(logged) > 4  # their machines did other work


def test_chapter_7_is_right_that_a_warp_leaves_the_elbo_where_it_is_over_seeds():
    groups = [base.seeds_of(f"{model}-vae") for model in DECODERS]
    elbos = [[r.recon.mean + r.kl_z.mean + r.kl_u.mean for r in g.records] for g in groups]
    assert [len(runs) for runs in elbos] == [12] * 3
    assert not any(beyond_luck(a, b) for a, b in itertools.combinations(elbos, 2))
    assert "and over twelve seeds the three are level" in chapter("07_together")
