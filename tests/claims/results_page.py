"""What the page of results says."""

import itertools
import math
import statistics
from typing import Any

import torch
from scipy import stats
from tables import base, speed, training

from tvae_core.experiments import measure, results, where
from tvae_core.experiments.configs import DECODERS, RECIPES, RUNS
from tvae_core.experiments.records import RunRecord
from tvae_core.experiments.study import nll_of

from .literature import BURDA, FLOOR
from .page import Page, word
from .sources import (
    BETTER,
    FIVE,
    ahead,
    by_ais,
    fastest_epoch,
    mean,
    mixed_gap,
    off_by,
    on_a_gpu,
    sd,
    spans,
    times_faster,
    warps_are_too_high_by_more,
    worths,
)


def results_page(page: Page) -> None:
    rule(page)
    claims_of_the_study(page)
    better_recipe(page)
    looking_again(page)
    augmented(page)
    turned_any_way(page)
    warp(page)
    all_images(page)


def rule(page: Page) -> None:
    """Which seeds and images a number is from."""
    page.says(
        "Where a chapter shows a single run, it is the one with seed 0; most tables of this page show means over seeds.",
        all(results.record_of(name).seed == 0 for name in results.recorded()),
    )
    page.says(
        "Test images are every fifth image of MNIST's test set where there are 2,000 of them, since the two halves of that set differ:",
        {r.data["test"]["n"] for r in results.all_records() if r.profile == "paper"}
        == {2_000, 10_000},
    )
    halves = {
        name: statistics.mean(nll[:5_000]) - statistics.mean(nll[5_000:])
        for name in RUNS
        if (seeds := base.whole(name))
        for nll in [seeds.records[0].nll_per_image]
    }
    study = [nats for name, nats in halves.items() if name in RECIPES["study"] and "plain" in name]
    long = [nats for name, nats in halves.items() if name in RECIPES["long"]]
    page.says(
        "on the first, plain models with the study's recipe have an NLL that is higher by half a nat to one and a half, and all models with 200 epochs have one that is lower by up to half a nat.",
        0.4 < min(study) < 0.6 and 1.4 < max(study) < 1.6,
        max(long) < 0 and -0.6 < min(long) < -0.4,
        len(long) == 9,
    )
    networks = [training.models.build(name) for name in DECODERS]
    sizes = [sum(p.numel() for p in network.parameters()) for network in networks]
    page.says(
        "All three models have 60 latents and nearly the same number of parameters; the plain one has the most:",
        {network.dim_z + network.dim_u for network in networks} == {60},
        sizes[0] == max(sizes) < 1.01 * min(sizes),
        len(networks) == 3,
    )
    page.says(f"their floor on MNIST is {FLOOR} nats.")
    page.leaves("A gap is called beyond luck where zero lies outside its 95 % interval over seeds")
    page.leaves("`python -m tvae_core.reproduce --recipe draws --seeds 1`", "| more draws |")
    chances, cpus = [], {}
    for name in itertools.chain(*(RECIPES[recipe] for recipe in ("study", *BETTER))):
        seeds = base.seeds_of(name)
        gpu = {record.seed: record.nll.mean for record in on_a_gpu(seeds)}
        cpus[name] = {r.seed: r.nll.mean for r in seeds.records if r.seed not in gpu}
        assert max(cpus[name]) < 3 <= min(gpu)
        assert len(gpu) == (9 if name in RECIPES["study"] else 5)
        if len(cpus[name]) >= 3:
            groups = [*cpus[name].values()], [*gpu.values()]
            chances.append(stats.ttest_ind(*groups, equal_var=False).pvalue)
    assert len(chances) == 12 + 9 + 4  # only four of the nine models with 200 epochs
    page.says(
        "Seeds 0 to 2 of the models with the study's recipe and with the modern one, at 50 and at 200 epochs, were trained on a CPU, the others on a GPU.",
        all(max(cpu) <= 2 for cpu in cpus.values()),
        all(max(cpus[name]) == 2 for name in RECIPES["study"]),
    )
    page.says(
        "for each model with at least three runs in both groups, the means differ by no more than luck explains, given how many models are compared.",
        min(chances) > 0.05 / len(chances),  # Bonferroni
    )


def claims_of_the_study(page: Page) -> None:
    objectives = ("vae", "vae-binarized", "multi5", "iwae5")
    warped = [(f"{m}-{o}", f"plain-{o}", o) for o in objectives for m in ("affine", "tps")]
    splines = [(f"tps-{o}", f"affine-{o}") for o in objectives]
    (runs,) = {len(results.over_seeds(f"{m}-{o}")) for m in DECODERS for o in objectives}
    page.says(f"compared with {word(runs)} runs of each model")
    page.leaves("With fewer samples the estimated NLL is biased further upwards.")
    page.says(
        "It does, under every objective and by more than the luck of training.",
        *(ahead(a, b) for a, b, _ in warped),
    )
    gaps = {a: (-base.paired_gap(a, b).mean, -by_ais(a)[0]) for a, b, o in warped if o == "iwae5"}
    page.says(
        "Under the IWAE importance sampling shows a gain of 1 to 1.5 nats, and a [closer estimate](tab-annealed) a larger one.",
        *(0.9 < sampled < 1.5 and annealed > 2 * sampled for sampled, annealed in gaps.values()),
    )
    page.says(
        "Under the ELBO it does, with one draw and with five. Under the IWAE it does not",
        *(ahead(a, b, "recon") == (o != "iwae5") for a, b, o in warped),
    )
    page.leaves("this objective rewards the best of five draws")
    page.says(
        "(With an encoder that straightens the image it falls under the IWAE as well: [every run](tab-runs).)",
        *(
            max(results.over_seeds(f"{m}-straight-iwae5-modern", "recon"))
            < min(results.over_seeds("plain-iwae5-modern", "recon"))
            for m in ("affine", "tps")
        ),
    )
    tenths = sorted(-results.gap_over_seeds(*pair).mean for pair in splines)
    page.says(
        f"It does, by {word(10 * tenths[0])} tenths of a nat to {word(tenths[-1])}, and under every objective beyond luck. "
        f"{word(runs).capitalize()} runs of each show it",
        *(ahead(*pair) for pair in splines),
    )
    orders = {results.record_of(a).nll.mean < results.record_of(b).nll.mean for a, b in splines}
    page.says(
        "with only one run of each, as in the study, luck can reverse the order.", len(orders) == 2
    )
    page.says(
        "the IWAE has the lower NLL with every decoder.",
        *(ahead(f"{m}-iwae5", f"{m}-multi5") for m in DECODERS),
    )
    scatter = [sd(f"{m}-{o}") for m in DECODERS for o in objectives]
    page.says(
        "Ours scatter from run to run by a few tenths of a nat, some by a nat or more",
        min(scatter) < 0.4 < statistics.median(scatter) < 0.8,
        sum(x > 1 for x in scatter) >= 2,
    )


def better_recipe(page: Page) -> None:
    page.leaves("trained better: Adam under one cycle, a warm-up of the KL, a less noisy gradient")
    beaten = {(m, o, r): nll_of(f"{m}-{o}") - mean(f"{m}-{o}-{r}") for m, o in FIVE for r in BETTER}
    most = [beaten["plain", o, "long"] for o in ("iwae5", "multi5")]
    page.says(
        "Every number of the study's table with five draws is beaten: at 50 epochs by nearly four nats or more, at 200 by more than that. "
        f"Without a warp, the margin at 200 epochs is about {word(most[0])} nats for the IWAE and {word(most[1])} for the multi-sample ELBO.",
        all(beaten[m, o, "modern"] > 3.8 for m, o in FIVE),
        all(beaten[m, o, "long"] > max(4.4, beaten[m, o, "modern"]) for m, o in FIVE),
        [results.record_of(f"plain-iwae5-{r}").config["epochs"] for r in BETTER] == [50, 200],
    )
    used = {
        (m, o, r): mean(f"{m}-{o}{r}", "informative")
        for m, o in FIVE
        for r in ("", "-modern", "-long")
    }
    gains = {(m, o): mean(f"{m}-{o}") - mean(f"{m}-{o}-modern") for m, o in FIVE}
    more = {
        key: now / used[key[0], key[1], ""]
        for key, now in used.items()
        if key[2] and key[0] == "plain"
    }
    extra = [now - used[m, o, ""] for (m, o, r), now in used.items() if r and m != "plain"]
    page.says(
        f"All {word(len(DECODERS))} models gain, and the plain one gains most: it puts about two to three times as many latents to use as before, "
        f"while the warped ones use at most {word(max(extra))} more",
        all(gain > 0 for gain in gains.values()),
        all(gains["plain", o] >= gains[m, o] for m, o in FIVE),
        all(1.8 < x < 3 for x in more.values()),
        min(extra) > 0,
    )
    for model, objective in FIVE:
        for recipe in ("", "-long"):
            found = measure.columns(results.measured("ais", f"{model}-{objective}{recipe}"))
            page.says(
                "The amount by which it lowers the estimate varies far less from image to image than the estimate itself does.",
                len(found["is_nll"]) == 100,
                (found["is_nll"] - found["ais_nll"]).std() < found["is_nll"].std() / 4,
            )
    page.leaves(
        "so it was run on 100 images, for seed 0.",
        "So its mean over the 100 images is subtracted from the mean over all 2,000 images and all seeds.",
        "the bars are the standard deviation over runs.",
        "(It was measured on 2,000 test images, theirs on all 10,000.) In the picture, the bars are the standard deviation over runs.",
        "Each recipe trains three seeds; `--seeds 12` trains twelve, as many as the tables of the study's recipe have, and `--seeds 8` as many as those of the better one have at most.",
    )
    scatter = {
        (m, o, r): sd(f"{m}-{o}-{r}")
        for m in DECODERS
        for o in ("vae", "multi5", "iwae5")
        for r in BETTER
    }
    plain = [x for (m, *_), x in scatter.items() if m == "plain"]
    warped = [x for (m, *_), x in scatter.items() if m != "plain"]
    page.says(
        "the runs of a plain model scatter by less than a tenth of a nat, those of a warped one mostly by more, by about half a nat for most affine ones that train with an ELBO.",
        max(plain) < 0.1 < statistics.median(warped),
        max(warped) < 0.6,
        statistics.median(x for (m, o, *_), x in scatter.items() if m == "affine" and o != "iwae5")
        > 0.4,
        max(scatter, key=scatter.get)[0] == "affine",
        max(scatter, key=scatter.get)[1] != "iwae5",
    )
    page.leaves("On the better recipe")
    page.says(
        "AIS was run for seed 0 only, and it gives an upper estimate too: the NLL of either kind of model may be a few tenths of a nat lower still."
    )


def warp(page: Page) -> None:
    pairs = [(f"{m}-{o}", f"plain-{o}") for m, o in FIVE if m != "plain"]
    sampled = {
        (a, r): base.paired_gap(f"{a}{r}", f"{b}{r}").mean
        for a, b in pairs
        for r in ("", "-modern", "-long")
    }
    annealed = {a: by_ais(a) for a, _ in pairs}
    long = {a: by_ais(f"{a}-long") for a, _ in pairs}
    page.says(
        "On the study's recipe a warp helps by more than importance sampling shows. Under the IWAE it helps by about twice as much with the affine map, and by more than that with the spline",
        all(nats < -3 * error for nats, error in annealed.values()),
        all(annealed[a][0] < sampled[a, ""] < 0 for a in annealed),
        1.8 < annealed["affine-iwae5"][0] / sampled["affine-iwae5", ""] < 2.4,
        annealed["tps-iwae5"][0] < 2.4 * sampled["tps-iwae5", ""],
    )
    objectives = ("vae", "multi5", "iwae5")
    leads = [
        (f"plain-{o}-{r}", f"{m}-{o}-{r}")
        for o in objectives
        for m in ("affine", "tps")
        for r in BETTER
    ]
    spline = {o: (f"affine-{o}-long", f"tps-{o}-long") for o in objectives}
    sizes = {
        name: sum(p.numel() for p in training.models.build(name).parameters()) for name in DECODERS
    }
    page.says(
        "With the encoder that all of these models share, which reads the image as it lies, nothing is left of the lead on the better recipe (at 200 epochs by AIS too; at 50 epochs AIS was not run on the warped models).",
        all(nats > 0 for nats, _ in long.values()),
    )
    page.says(
        "By importance sampling the plain model is ahead under every objective and beyond luck, and with five draws by more at 200 epochs than at 50. "
        "(It has a few more parameters, and one kind of latent.) At 200 epochs the spline is behind the affine map too; with five draws that gap is beyond luck.",
        all(ahead(*pair) for pair in leads),
        all(0 < sampled[a, "-modern"] < sampled[a, "-long"] for a in annealed),
        all(results.gap_over_seeds(*pair).mean < 0 for pair in spline.values()),
        all(ahead(*pair) == (o != "vae") for o, pair in spline.items()),
        max(sizes, key=sizes.get) == "plain",
    )
    page.says(
        "AIS at 200 epochs leaves between a third and somewhat more than half of that lead.",
        all(0.3 < long[a][0] / sampled[a, "-long"] < 0.6 for a in long),
    )
    page.says(
        "The plain model is ahead of either warp with the multi-sample ELBO, by about 0.9 and 1.3 nats, and ahead of the spline under the IWAE by about three quarters of a nat. "
        "Each of these gaps is more than three standard errors. The affine map under the IWAE is behind by less, or level.",
        all(abs(long[f"{m}-multi5"][0] - n) < 0.06 for m, n in (("affine", 0.9), ("tps", 1.3))),
        abs(long["tps-iwae5"][0] - 0.75) < 0.1,
        all((nats > 3 * error) == (a != "affine-iwae5") for a, (nats, error) in long.items()),
        long["affine-iwae5"][0] < long["tps-iwae5"][0],
    )
    leads, with_all = (
        [where.lead(n, turn, "affine") for turn in where.TURNS] for n in (10_000, 59_500)
    )
    mixed = mixed_gap()
    with_moves = {
        m: [statistics.fmean(nll) for nll in where.scored("digits", m, "nll")]
        for m in ("plain", *where.WARPED)
    }
    gains = [
        statistics.fmean(with_moves["plain"]) - statistics.fmean(with_moves[m])
        for m in where.WARPED
    ]
    page.says(
        "a transformer decoder helps only where training is slow: with the study's recipe, and there with the multi-sample ELBO more than with the IWAE. "
        "With the better recipe it does not help: by importance sampling the plain model is ahead. Corrected by AIS, it is ahead or about level at 200 epochs, and for the IWAE at 50 epochs a better proposal finds the affine and the plain model level ([chapter 11](../notebooks/11_look_again)). "
        "(With 500 or 2,000 training images, upright or turned, it does help, as a [table below](tab-map) shows, and with 5,000 that are turned, shifted and scaled [it helps too](tab-where), by two to six nats. With 10,000 it still helps on upright digits and on those turned by up to 45 degrees, and no longer on digits turned further. With all of MNIST, where there is one run, the affine model is level with the plain one or behind it.)",
        all(sampled[a, ""] < 0 < sampled[a, "-modern"] < sampled[a, "-long"] for a in annealed),
        all(sampled[f"{m}-multi5", ""] < sampled[f"{m}-iwae5", ""] for m in ("affine", "tps")),
        all(worth > 1 for worth in worths("affine", [500, 2_000])),
        None not in leads,
        len(worths("affine", [500, 2_000])) == 8,
        *(lead.mean > 2 * lead.se for lead in leads[:2]),
        *(lead.mean < 2 * lead.se for lead in leads[2:]),
        *(abs(lead.mean) < 1.5 * lead.se for lead in with_all[:2]),
        *(lead.mean < -3 * lead.se for lead in with_all[2:]),
        all(len(where.by_seed(f"map-59500-{t}-affine", "nll")) == 1 for t in where.TURNS),
        all(nats > -2 * error for nats, error in long.values()),
        abs(mixed.mean) < mixed.se,
        (round(min(gains)), round(max(gains))) == (2, 6),
    )
    page.says(
        "and such an estimate lies too high, for a warped model by more than for a plain one",
        *warps_are_too_high_by_more(),
    )
    page.says(
        "a diagonal normal fits the posterior over poses worse, so that the NLL of a warped model is harder to measure.",
        *warps_are_too_high_by_more(),
    )


def augmented(page: Page) -> None:
    plain, shown, straight = (
        statistics.fmean(where.scored("digits", m, "nll")[0])
        for m in ("plain", where.AUGMENTED, "affine-straight")
    )
    page.says(
        f"The model `plain-augmented` saw each training digit in {where.COPIES} poses. In its one run, next to the runs of the same seed, it makes up eleven of the fifteen nats between the plain model and the affine one that straightens ([chapter 12](../notebooks/12_what_and_where)), and its $z$ knows the class no better.",
        (round(plain - shown), round(plain - straight)) == (11, 15),
        len(where.scored("digits", where.AUGMENTED, "nll")) == 1,
        where.scored("digits", where.AUGMENTED, "contents", "z", "linear")[0]
        < where.scored("digits", "plain", "contents", "z", "linear")[0] + 0.01,
    )


def looking_again(page: Page) -> None:
    straight = [f"{m}-straight-iwae5-modern" for m in ("affine", "tps")]
    wide = base.paired_gap("plain-wide-iwae5-modern", "plain-iwae5-modern")
    free = base.paired_gap("affine-unbounded-iwae5-modern", "affine-iwae5-modern")
    longer = base.paired_gap("affine-unbounded-iwae5-long", "plain-iwae5-long")
    page.says(
        "With the straightened image in view either warp is ahead of the plain model by more than two and a half nats at 50 epochs, and ahead of what the plain model reaches after 200.",
        *(base.paired_gap(name, "plain-iwae5-modern").mean < -2.5 for name in straight),
        *(max(results.over_seeds(name)) < mean("plain-iwae5-long") for name in straight),
    )
    page.says(
        "[AIS](tab-annealed), which corrects both models, leaves the affine map {:.1f} of its nats, and the spline {:.1f}.".format(
            *(-by_ais(name)[0] for name in straight)
        ),
    )
    page.says(
        "The leads of models that straighten and train as a VAE or with the multi-sample ELBO are about as large.",
        *(
            2.5 < -base.paired_gap(f"{m}-straight-{o}-modern", f"plain-{o}-modern").mean < 3.2
            for m, o in (("affine", "vae"), ("tps", "vae"), ("affine", "multi5"))
        ),
    )
    page.says(
        "A larger encoder alone does not do it: it changes the plain model by less than a quarter of a nat, at 50 epochs and, in one run, at 200. "
        f"The study's tanh costs the affine model with one look {-free.mean:.2f} ± {free.se:.2f} nats at 50 epochs: without it (`affine-unbounded`) that model is level with the plain one. "
        f"At 200 epochs, in one run, it gains two thirds of a nat and stays {longer.mean:.1f} behind, by importance sampling.",
        len(results.over_seeds("affine-unbounded-iwae5-long")) == 1,
        0.6 < -base.paired_gap("affine-unbounded-iwae5-long", "affine-iwae5-long").mean < 0.82,
        abs(base.paired_gap("plain-wide-iwae5-long", "plain-iwae5-long").mean) < 0.25,
        not results.gap_over_seeds(
            "affine-unbounded-iwae5-modern", "plain-iwae5-modern"
        ).beyond_luck,
        abs(wide.mean) < 0.25,
    )
    long = base.paired_gap("affine-straight-iwae5-long", "plain-iwae5-long")
    corrected, error = by_ais("affine-straight-iwae5-long")
    page.says(
        f"With 200 epochs, for which there is one run, the affine map's lead is {-long.mean:.1f} nats, and {-corrected:.1f} when AIS corrects both models.",
        results.record_of("affine-straight-iwae5-long").config["epochs"] == 200,
        error < 0.3,
    )
    fell = {
        m: mean(f"{m}-iwae5-modern") - mean(f"{m}-iwae5-long") for m in ("plain", "affine-straight")
    }
    before, its_error = by_ais("affine-straight-iwae5-modern")
    pace = [
        fastest_epoch(f"affine-straight-iwae5-{r}") / fastest_epoch(f"plain-iwae5-{r}")
        for r in BETTER
    ]
    page.says(
        f"from 50 epochs to 200 the plain model gains {fell['plain']:.1f} nats and this one {fell['affine-straight']:.1f}, so by importance sampling the lead shrinks as training goes on. (By AIS it goes from {-before:.1f} to {-corrected:.1f}, which is within the errors.) We have not trained longer. "
        "An epoch takes three to five times as long as one of the plain model.",
        all(3 < ratio < 5 for ratio in pace),
        abs(before - corrected) < math.hypot(error, its_error),
        fell["plain"] - fell["affine-straight"] > 0.3,
    )
    once, many = worths("affine", [500, 2_000]), worths("affine", [10_000])
    upright = [where.worth(n, 0, "affine-straight") for n in (500, 2_000, 10_000)]
    leads = [where.lead(n, 0, "affine-straight").mean for n in (500, 2_000, 10_000)]
    page.says(
        "In nats, a warp is worth most with few training images. Counted in images, its worth on upright digits changes little as their number grows: three to five times as many.",
        leads == sorted(leads, reverse=True),
        (round(min(w.factor for w in upright)), round(max(w.factor for w in upright))) == (3, 5),
    )
    looks_again = [m for m in where.MODELS if m.endswith("-straight")]
    agrees, follows = (
        {
            (kind, m): off_by(what, kind, m)
            for kind in ("digits", "glyphs")
            for m in (where.ABSENT, *where.MODELS[1:])
        }
        for what in ("poses", "moves")
    )
    page.says(
        "The ink's moments, which learn nothing, follow digits best, to two degrees. Letters they follow to four and a half, and the models that straighten to four.",
        round(follows["digits", where.ABSENT]) == 2,
        min(follows["digits", m] for m in where.MODELS[1:]) > 6,
        4.3 < follows["glyphs", where.ABSENT] < 4.6,
        all(round(follows["glyphs", m]) == 4 for m in looks_again),
    )
    one_look = [m.removesuffix("-straight") for m in looks_again]
    page.says(
        "Those agree better than the ink, on digits and on letters. On letters the affine and the similarity map with one look agree best of all. "
        "On digits, only the similarity map of these two agrees better than the ink does.",
        *(
            agrees[k, m] < agrees[k, where.ABSENT]
            for k in ("digits", "glyphs")
            for m in looks_again
        ),
        {*sorted(where.MODELS[1:], key=lambda m: agrees["glyphs", m])[:2]}
        == {"affine", "similarity"},
        [m for m in one_look if agrees["digits", m] < agrees["digits", where.ABSENT]]
        == ["similarity"],
    )
    page.says(
        "To be level with the affine model that straightens, the plain model needs about three and a half times as many images or more, in each of our twelve settings; "
        f"to be level with the one that looks once, about two to three times as many with 500 and 2,000 images, and {min(many):.1f} to {max(many):.1f} times with 10,000 ([chapter 12](../notebooks/12_what_and_where) has each factor).",
        len(worths("affine-straight")) == 12,
        3.3 < min(worths("affine-straight")) < 3.7,
        (round(min(once)), round(max(once))) == (2, 3),
    )
    garments = [
        torch.tensor(where.by_seed(f"garments-{m}", "nll")).double()
        for m in ("plain", "affine-straight")
    ]
    ahead_by = where.over_runs(garments[0] - garments[1])
    page.says(
        "On garments, which nearly all have the same pose {cite}`xiao2017fashion`, the model that straightens is ahead by 1.5 ± 0.7 nats with 2,000 images, in two runs, which fits the idea that a warp helps because of the pose.",
        (round(ahead_by.mean, 1), round(ahead_by.se, 1)) == (1.5, 0.7),
        [len(runs) for runs in garments] == [2, 2],
    )
    (epochs,) = {results.record_of(name).config["epochs"] for name in straight}
    page.says(
        f"With either warp the NLL is now lower than the {BURDA['iwae5']} of [Burda et al. 2016](https://arxiv.org/abs/1509.00519) (table 1), in a sixtieth of their epochs. "
        "The book's best NLL, with 200 epochs, took a sixteenth.",
        max(map(mean, straight)) < BURDA["iwae5"],
        abs(BURDA["epochs"] / epochs - 60) < 8,
        min(results.recorded(), key=mean) == "affine-straight-iwae5-long",
        abs(BURDA["epochs"] / 200 - 16) < 0.5,
    )


def turned_any_way(page: Page) -> None:
    with_r, without = (f"turns-similarity-straight{tail}" for tail in ("-turns", ""))

    def of(task: str, *keys: str) -> list[Any]:
        return where.by_seed(task, *keys)

    page.says(
        "Where digits may lie in any direction, none of our models with a normal posterior over the turn found it. With one more latent, the number of quarter turns (the bound sums over its four values), "
        "the model follows most turns to a few degrees, its $z$ tells the classes apart better, and its NLL is lower.",
        *(
            error > 80  # guessing has 90
            for task in (
                without,
                "published-similarity-straight",
                *(f"map-{n}-180-{m}" for n in where.SIZES for m in where.MAPPED[1:]),
            )
            for error in of(task, "moves", "degrees", "error")
        ),
        max(of(with_r, "moves", "degrees", "error")) < 5,
        min(of(with_r, "contents", "z", "linear"))
        > max(of(without, "contents", "z", "linear")) + 0.1,
        max(map(statistics.fmean, of(with_r, "nll")))
        < min(map(statistics.fmean, of(without, "nll"))) - 2,
    )


def all_images(page: Page) -> None:
    measured = {name: seeds for name in RUNS if (seeds := base.whole(name))}
    near, of_study = [], set()
    for name, seeds in measured.items():
        few = {record.seed: record for record in base.seeds_of(name).records}
        if name in RECIPES["study"]:
            of_study.add(len(seeds.records))
        for on_all in seeds.records:
            on_some = few[on_all.seed]
            near.append(on_some.data["test"]["n"] == 2_000)
            near.append(abs(on_all.nll.mean - on_some.nll.mean) < on_some.nll.se)
    long = [len(base.whole(name).records) for name in RECIPES["long"]]
    page.says(
        "A core takes minutes for the NLL of one model on 10,000 images, so the tables above make do with 2,000.",
        *(
            10_000 * row["tvae_core"] > 60
            for n in ("avx2", "avx512")
            for row in speed.benchmark(n)["seconds_per_nll"]
        ),
    )
    page.says(
        "Some runs were measured on all 10,000, among them five or six of each model of the study's recipe and most of those with 200 epochs: each of these NLLs lies within a standard error over images of the NLL of the same run on the 2,000 images.",
        {*RECIPES["study"]} <= set(measured),
        of_study == {5, 6},
        sum(long) > sum(len(base.seeds_of(name).records) for name in RECIPES["long"]) / 2,
        all(near),
    )
    page.says(
        "With 200 epochs the plain models come within a nat of what [Burda et al. 2016](https://arxiv.org/abs/1509.00519) (table 1) print",
        *(
            0 < statistics.mean(measured[f"plain-{o}-long"].of("nll")) - BURDA[o] < 1
            for o in ("vae", "multi5", "iwae5")
        ),
    )
    page.says(
        f"{BURDA['vae']} for one draw, {BURDA['multi5']} for the multi-sample VAE and {BURDA['iwae5']} for the IWAE, both with five."
    )


def how_fast(page: Page) -> None:
    cpus = [speed.benchmark(name) for name in ("avx2", "avx512")]
    assert [cpu["cores"] for cpu in cpus] == [2, 2]
    one = [x for cpu in cpus for x in times_faster(cpu, "seconds_per_epoch")]
    each = [x for cpu in cpus for x in times_faster(cpu["on_each_core"], "seconds_per_epoch")]
    modes = [*cpus, *(cpu["on_each_core"] for cpu in cpus)]
    nll = [x for mode in modes for x in times_faster(mode, "seconds_per_nll")]
    least, most = (word(f([*one, *each, *nll])) for f in (min, max))
    page.says(
        f"On a CPU `tvae_core` is {least} to {most} times as fast: it trains {spans(one, 1)} times as fast with one run on both cores, "
        f"{spans(each, 1)} times with one run on each (`torchrun --nproc-per-node 2 -m tvae_core.reproduce`), "
        f"and in either way computes the NLL {spans(nll, 1)} times as fast."
    )
    # What the page says about the two records stands in them, too.
    older, newer = (cpu["note"] for cpu in cpus)
    page.says(
        "The AVX2 record is older than the code",
        older.startswith("older than the code: the optimizer's update was not yet compiled"),
        newer.endswith("tries in which these cores shared a cache"),
    )
    gpu = speed.benchmark("gpu")
    stacked, seeds = (
        times_faster(gpu, "seconds_per_epoch", "side by side"),
        gpu["seeds_side_by_side"],
    )
    page.says(
        f"On an H100 it trains {spans(times_faster(gpu, 'seconds_per_epoch'), 0)} times as fast, or {spans(stacked, 0)} times per "
        f"seed with {seeds} seeds side by side, and computes the NLL {spans(times_faster(gpu, 'seconds_per_nll'), 0)} times as fast.",
        "H100" in gpu["processor"],
    )
    page.leaves("with matrix products rounded to TF32")
    peaks = [speed.benchmark(name)["peak_mb"] for name in speed.PROCESSORS]
    for rows in peaks:
        full = [row["tvae_core"] for row in rows if row["k"] >= 1_000]  # a chunk, or several
        assert max(full) < 1.1 * min(full)
    page.says(
        "memory peaks below 15 MB even at 50,000 draws, where tutorial style needs more than 500 MB.",
        all(row["tvae_core"] < 15 for rows in peaks for row in rows),
        all(rows[-1]["k"] == 50_000 and rows[-1]["tutorial"] > 500 for rows in peaks),
    )
    took = {}
    for recipe in ("study", *BETTER):
        found = trained_on_a_gpu(recipe)
        ((device, workers),) = {(r.machine.device, r.machine.workers) for r in found}
        assert device == "NVIDIA H100 80GB HBM3"
        seconds = sum(r.seconds["train"] + r.seconds["evaluate"] for r in found)
        (n,) = {record.data["test"]["n"] for record in found}
        took[recipe] = f"{seconds / 60 / workers:.0f}", len(found), f"{n:,}"
    (study, runs, images), modern, (long, *others) = took.values()
    assert list(modern[1:]) == others
    page.says(
        f"{word(workers).capitalize()} workers that shared an H100 through NVIDIA's MPS (`nvidia-cuda-mps-control -d`, started before them) "
        f"spent {study} minutes each on the study's recipe ({runs} runs, NLL on all {images} test images), "
        f"{modern[0]} on the modern recipe at 50 epochs and {long} at 200 ({others[0]} runs each, NLL on {others[1]} test images)"
    )


def trained_on_a_gpu(recipe: str) -> list[RunRecord]:
    """The records of a recipe's runs, on all test images if each model has as many of those."""
    runs = RECIPES[recipe]
    on_all = [on_a_gpu(seeds) if (seeds := base.whole(name)) else [] for name in runs]
    if len({len(found) for found in on_all}) > 1 or not on_all[0]:
        on_all = [on_a_gpu(base.seeds_of(name)) for name in runs]
    return [record for found in on_all for record in found]


CLAIMS = {"results": results_page, "contributing": how_fast}
