"""What chapters 1 to 3 say of results. nbval holds what they print, so it may be read."""

import itertools
import math
import statistics

import torch

from tvae_core.evaluation import mean_se
from tvae_core.experiments import measure, results
from tvae_core.experiments.configs import DECODERS
from tvae_core.experiments.results import record_of
from tvae_core.experiments.study import PRINTED

from .literature import FLOOR
from .page import Page, word
from .sources import (
    IWAES,
    VAES,
    ahead,
    at,
    beyond_luck,
    falls_and_flattens,
    over_seeds_at,
    paired,
    per_image,
    reproduced,
    straightened,
    time,
)


def chapter_1(page: Page) -> None:
    time(page, "plain-vae")
    record = record_of("plain-vae")
    last = record.curves[-1]
    batches = page.printed(r"epoch \d: -ELBO of the last batch #")
    page.says(
        f"which costs $784 \\log 2 = {784 * math.log(2):.0f}$ nats, so about two thirds of this is gone after three passes",
        abs(1 - batches[-1] / (784 * math.log(2)) - 2 / 3) < 0.03,
    )
    page.says(
        "it may rise from one epoch to the next, as it does from the first to the second",
        batches[0] < batches[1],
    )
    page.says(
        "The bound is minus the sum of the other two",
        math.isclose(-last["bound"], last["recon"] + last["kl_z"], abs_tol=0.01),
    )
    page.says(
        "The KL *rises* while the bound improves",
        all(b["kl_z"] > a["kl_z"] for a, b in itertools.pairwise(record.curves[4::5])),
    )
    page.says(
        "the reconstruction loss falls by much more.",
        record.curves[0]["recon"] - last["recon"] > 5 * (last["kl_z"] - record.curves[0]["kl_z"]),
    )
    page.says(
        "so its reconstruction loss is a little higher than that of the last epoch.",
        0 < record.recon.mean - last["recon"] < 3,
    )
    (mini,) = page.printed(r"the floor on these digits: #")
    page.says(
        f'So about {mini:.0f} nats of every "reconstruction loss" on gray digits come from the data'
    )
    floor = mean_se(measure.columns(results.measured("pixels", "plain-vae"))["entropy"])
    page.says(
        f"On MNIST's test set the floor is {FLOOR} nats.", abs(floor.mean - FLOOR) < 2 * floor.se
    )
    page.says(f"when you read that a model reaches {PRINTED['plain'].recon:.0f}.")
    page.says(
        f"has a floor of about {mini:.0f} nats, and no model can go below it.",
        record.recon.mean > mini,
    )
    page.leaves(
        "`elbo` is the formula of step 3",
        "saves more nats in the first term than it costs in the second",
    )
    page.leaves("as the bit goes with base 2", "never negative, and 0 only if $q = p$")
    page.leaves("something that is never larger, the **evidence lower bound**")
    page.leaves(
        "it pulls $\\mu$ to 0 and $\\sigma$ to 1",
        "two things may happen at once: $\\log p(x)$ rises",
    )
    page.leaves("the probability one half", "says more and more about each image")
    page.leaves("only *two* latents on the bundled training digits for ten epochs")
    most, *half = page.asserted("inside > # if weight else # < inside < #")
    page.says("about half of these means lie outside it", half == [0.4, 0.6])
    page.says("With the KL, the lattice covers most of the means", most > 0.6)
    gap, closed = page.printed("of a gap of about # nats, about # tenths are closed")
    page.says("For these digits about four fifths of the gap is closed.", closed == 8)
    page.says("and only a smaller part is due to the shape of $q$.", 0 < 10 - closed < 5)
    page.leaves(
        "(The NLL from 5,000 samples is itself a little too high, so the whole gap is larger than it looks here, and the share that can be closed is smaller.)",
        "A better encoder would raise the ELBO.",
    )
    page.says(
        "So most of what the ELBO of this model misses is the fault of the encoder, which answers for all images with one network",
        closed > 5,
    )
    page.says("On test images the gap is wider.", at(record)[1] - at(record)[5_000] > gap + 1)
    page.leaves(
        "Its mean over $q$ is the ELBO of step 2.",
        "the tables call it *recon*, a mean over ten draws of $q$ for each image.",
        "By step 4 the ELBO misses",
        "the 1s in a group",
    )
    page.says(
        "scattered over an area several times as wide.",
        page.asserted(r"means\[0\]\.std\(\) > # \* means\[1\]")[0] >= 3,
    )
    page.says(
        "Its NLL comes from 1,000 samples an image, ours from 5,000; chapter 4 shows that this makes a difference of less than half a nat.",
        *(at(record_of(name))[1_000] - at(record_of(name))[5_000] < 0.5 for name in VAES),
    )
    page.says("averaged over the images of one batch", page.asserted("batch_size=#")[0] == 128)
    page.says("`KL(u)` is 0 because the plain model has no pose latents", last["kl_u"] == 0)
    page.says(
        f"The negative ELBO falls for all {len(record.curves)} epochs: the study's model is not trained to convergence. "
        f"The KL ends at about {record.kl_z.mean:.0f} nats.",
        all(b["bound"] > a["bound"] for a, b in itertools.pairwise(record.curves)),
    )
    losses = [[-row["bound"] for row in record.curves], [row["recon"] for row in record.curves]]
    page.says(
        "the negative ELBO falls steeply at first and then slowly; in the middle, so does the reconstruction loss. Right, the KL rises and levels off.",
        *map(falls_and_flattens, losses),
        falls_and_flattens([-row["kl_z"] for row in record.curves]),
    )
    page.says(
        "the estimate drops by several nats from one sample to a hundred, and by less than one from a thousand to five thousand.",
        3 < at(record)[1] - at(record)[100] < 5,
        0 < at(record)[1_000] - at(record)[5_000] < 1,
    )
    page.leaves("A falling curve that flattens")
    page.says(
        f"The study's numbers are reached. (The study's NLL comes from 1,000 samples; with as many ours is {at(record)[1_000]:.1f}.",
        *reproduced("plain"),
    )
    page.says(
        "On training images ours is lower by about two nats, as the log above shows.",
        round(record.recon.mean - record.curves[-1]["recon"]) == 2,
    )
    page.says(f"from $e^{{-6}} = {math.exp(-6):.3f}$ to $e^{{6}} = {math.exp(6):.0f}$")
    jumps = page.printed("changes the KL of this latent by #")
    (ruined,) = page.printed("threshold: reconstruction loss # nats")
    page.says(
        r"If, for some image, the $\log \sigma$ of the latent that the encoder is surest of ever falls below $-6$, the loss of that image leaps by more than 160,000 nats on average, half of it in the KL and half in the reconstruction loss",
        jumps[0] + ruined > 160_500,
        abs(jumps[0] - ruined) < 0.05 * ruined,
    )
    page.says("the number after $\\pm$ is the standard error over test images")
    page.says(
        "We trained each of the study's models with several seeds",
        *(len(results.over_seeds(name)) == 12 for name in (*VAES, *IWAES)),
        *(len(results.over_seeds(f"{m}-multi5")) == 12 for m in DECODERS),
    )
    page.says("for the training run with seed 0")

    config = record.config
    page.says(
        f"`paper` is the study's {config['epochs']} epochs on {record.data['train']['n']:,} images"
    )
    page.says(f"batches of {config['batch_size']} gray images", config["binarization"] == "none")


def chapter_2(page: Page) -> None:
    plain, _, tps = map(record_of, VAES)
    between = plain.recon.mean - tps.recon.mean
    page.leaves("No cell trains more than six numbers")
    empty, pixels = page.printed("forward warping leaves # of # pixels empty")
    page.says("$1 - (2/3)^2 = 5/9$ of the output stays empty", abs(empty / pixels - 5 / 9) < 0.05)
    page.says(f"such a pixel costs {-math.log(1e-6):.1f} nats.")
    half, _ = page.printed("half a pixel: # nats; a whole pixel: #")
    turns = page.printed("turned by # degrees and back: # nats")[1::2]
    page.says(
        "two readings of a digit, half a pixel off or at an angle, cost more than the gap between the reconstruction losses of this book's plain and warped models",
        min(half, *turns[1:4]) > between,
    )
    page.says(
        "from about 5 degrees on its cost hardly depends on the angle, until it comes close to a quarter turn, which meets pixel centres again. A turn by one degree costs less",
        max(turns[1:4]) < 1.1 * min(turns[1:4]),
        turns[4] == 0,
        turns[0] < 0.5 * turns[1],
    )
    costs = page.printed("align_corners=(?:True|False) +# nats above floor")
    (floor,) = Page("01_vae").printed("the floor on these digits: #")
    page.says("Two of the four pairs are right and cost nothing.", sorted(costs)[:2] == [0, 0])
    page.says(
        f"The popular wrong pair costs about {word(costs[2])} nats an image on top of a floor of about {floor:.0f}: "
        "more than the gap between the reconstruction losses of the plain VAE and of the richest warp.",
        costs[2] > between,
    )
    wrong = sorted(costs)[2:]
    page.says(
        f"Mixing them costs {word(wrong[0])} or thirteen nats an image on these digits",
        round(wrong[1]) == 13,
    )
    sizes = Page("04_tps_tvae").printed(r"u +\d+, # parameters")
    page.says(
        "(seed 0, 2,000 test images), from three models of nearly the same size (576,000 to 580,000 parameters)",
        len(sizes) == 3,
        [int(size // 1_000) for size in (min(sizes), max(sizes))] == [576, 580],
    )
    page.says(
        "Both warps have a lower reconstruction loss and a lower NLL than no warp, with the same number of latents and nearly the same networks. But their KL is higher;",
        *(record_of(w).kl_z.mean + record_of(w).kl_u.mean > plain.kl_z.mean + 1 for w in VAES[1:]),
        *(record_of(w).nll.mean < plain.nll.mean - 1 for w in VAES[1:]),
        *(record_of(w).recon.mean < plain.recon.mean - 2 for w in VAES[1:]),
    )
    page.says(
        "Such a table cannot say on its own which of the two warps is better; chapter 4 compares them over twelve training runs each.",
        all(len(results.over_seeds(f"{model}-vae")) == 12 for model in ("affine", "tps")),
    )
    outside, cut = page.printed("# of # pixels look outside")
    page.says("More than half of its pixels look outside the cut-out.", outside > cut / 2)


def chapter_3(page: Page) -> None:
    time(page, "affine-vae")
    straightened(
        page,
        "[Chapter 7](07_together) trains all models better, still with an encoder that looks at the image once, and finds the warp's gain gone. [Chapter 11](11_look_again) keeps the decoder and changes only the encoder, and the warped model is ahead again, by more than two nats.",
    )
    plain, affine = (record_of(f"{model}-vae") for model in ("plain", "affine"))
    page.says(
        f"the plain VAE pays about {plain.kl_z.mean:.0f} nats for its 60.",
        len(plain.kl_per_latent) == 60,
    )
    page.leaves(
        "the KL falls into two parts",
        "The model gains only where a number of $u$ says more per nat",
    )
    page.leaves(
        "Let us shrink every pose",
        "as a smaller $W$ would, and see in which direction recon falls",
        "with a dead warp behind it.",
    )
    page.leaves(
        "So gradient descent would shrink $W$",
        "is near 0, and the model is a plain VAE with fewer latents.",
    )
    page.leaves("by the prior's mean, 0. Print by how much recon rises")
    (small, *_) = page.printed("the grid is off by # pixels")
    page.says(
        f"With a small $W$ the grid is off by {word(small)} pixels. This still costs something, but a blur {word(small)} pixels off"
    )
    kl = {name: [row[name] for row in affine.curves] for name in ("kl_z", "kl_u", "recon", "bound")}
    page.says(
        "The pose latents are in use from the first epochs on, and their KL hardly changes after.",
        max(kl["kl_u"]) < 1.1 * min(kl["kl_u"]),
    )
    page.says(
        "the negative ELBO and the reconstruction loss fall, steeply at first; the KL of z and the KL of u, drawn as separate curves, cross after two epochs and level off; from then on that of u lies below that of z.",
        falls_and_flattens([-x for x in kl["bound"]]),
        falls_and_flattens(kl["recon"]),
        kl["kl_z"][9] > 0.9 * kl["kl_z"][-1],
        kl["kl_u"][-1] < kl["kl_z"][-1] - 2,
    )
    nats = page.printed(r"together #, the 54 numbers of z #")
    page.says(
        "A tenth of the latents take more than two fifths of the nats.",
        6 / 60 == 0.1,
        2 / 5 < nats[0] / sum(nats) < 0.5,
    )
    of_u = page.printed(r"KL of each u: \['#', '#', '#', '#', '#', '#'\]")
    page.says(
        "And not all six are in use. A latent that takes 0.0 nats carries no information",
        min(of_u) == 0.0,
    )
    W = results.load_pretrained("affine-vae").model.cpu().decoder.pose.weight.detach().abs()
    rest = W.clone()
    rest[:2, [0, 5]] = 0
    page.says(
        "The first and the last column hold the four largest entries, in the rows of width and slant; the rest of the map is near zero.",
        W[:2, [0, 5]].min() > 2 * rest.max(),
        rest.max() < 0.11,
    )
    page.says(
        "Width and slant. Everything else is far smaller: the rows tilt a little, and the digit shifts a little and changes its height a little.",
        W[:2].norm(dim=1).min() > 2.5 * W[2:].norm(dim=1).max(),
    )
    (tall, _), (wide, spread) = (
        page.printed(f"{what} of the ink: +# pixels, spread #") for what in ("height", "width")
    )
    page.says("Most digits are taller than wide", tall > wide + 3, spread < tall)
    rises = sorted(page.printed(r"u_\d: KL [\d.]+ nats, recon rises by #"))
    page.says(
        "Nearly all motion of the pose latents is slant and width, the two things that MNIST's preparation left over.",
        rises[-2] > 5 * rises[-3],
        rises[-3] <= 10,
    )
    nats = sorted(page.printed(r"u_\d: KL # nats, recon rises by [\d.]+"))
    page.says(
        "Three of the five in use spend two fifths of their nats on small tilts and shifts.",
        nats[0] < 0.1 < nats[1],
        0.35 < sum(nats[1:4]) / sum(nats) < 0.42,
    )
    (within,) = page.printed(r"in all 5 that are in use: #%")
    page.says("So most prior draws have some $u_i$ where no image can have its mean.", within < 50)
    recon, nll = (getattr(plain, f).mean - getattr(affine, f).mean for f in ("recon", "nll"))
    more_kl = affine.kl_z.mean + affine.kl_u.mean - plain.kl_z.mean
    page.says(
        f"Recon falls by {word(recon)} nats. But the KL rises by even more: the KL eats up the whole gain and more, and the negative ELBO, the sum of recon and both KLs, is {more_kl - recon:.1f} nats *higher* with the warp.",
        more_kl > recon,
    )
    page.says(
        f"By the objective that both models were trained on, the warp brings nothing. The NLL falls all the same, by {word(nll)} nats.",
        at(affine)[1] > at(plain)[1],
        affine.curves[-1]["bound"] < plain.curves[-1]["bound"],
    )
    page.says(
        "(Over twelve runs of each model the two are level: chapter 4.)",
        not beyond_luck(*(over_seeds_at(name, 1) for name in VAES[:2])),
        {len(over_seeds_at(name, 1)) for name in VAES[:2]} == {12},
    )
    page.says(
        "and the affine model's gap is wider: its better decoder hides behind an encoder that fits less well.",
        at(affine)[1] - at(affine)[5_000] > at(plain)[1] - at(plain)[5_000],
    )
    sds = [statistics.stdev(results.over_seeds(name)) for name in VAES[:2]]
    gap, error = paired("affine-vae", "plain-vae")
    unpaired = math.hypot(plain.nll.se, affine.nll.se)
    page.says(
        "the standard error of their difference would be about half of the gap.",
        0.4 < unpaired / -gap < 0.6,
    )
    page.says("a standard error that is several times smaller", 3 < unpaired / error < 7)
    one_run = math.hypot(*sds)
    page.says(
        f"NLLs of single runs scatter by {sds[0]:.2f} and {sds[1]:.2f} nats, so the difference of two single runs scatters by $\\sqrt{{{sds[0]:.2f}^2 + {sds[1]:.2f}^2}} = {one_run:.2f}$ nats, {word(one_run / error)} times the paired standard error."
    )
    page.says(
        "The means of twelve runs of each do: chapter 4 compares them, and the warp's lead is larger than the luck of training explains.",
        {len(results.over_seeds(name)) for name in VAES[:2]} == {12},
        ahead("affine-vae", "plain-vae"),
    )
    page.leaves("One run of each, as here, would not settle the question.")
    page.says("The standard error of the difference is then several times smaller.")
    both = torch.stack([per_image("plain-vae"), per_image("affine-vae")])
    page.says(
        "hugging the diagonal over a range of more than a hundred nats.",
        both.amax() - both.amin() > 150,
        torch.corrcoef(both)[0, 1] > 0.95,
    )
    change = both[0] - both[1]
    page.says(
        "Most images change by a few nats, up or down.",
        ((change.abs() > 1) & (change.abs() < 8)).double().mean() > 0.6,
    )
    page.says(
        "a narrow peak near zero, whose left side is wider than its right.",
        *(change.quantile(f) + change.quantile(1 - f) > 0 for f in (0.01, 0.05, 0.1, 0.25, 0.4)),
    )
    tails, n = change.sort().values, len(change) // 20
    most, least = (part.sum() / len(change) for part in (tails[-n:], tails[:n]))
    page.says(
        f"The 5% of the images that gain most add {most:.2f} nats to the mean gain of {change.mean():.2f}, and the 5% that lose most take away {-least:.2f}. "
        f"So the two tails together add {most + least:.2f} nats, and the other 90% of the images add {change.mean() - most - least:.2f}: "
        "the lead is not the work of a few images, although many single images change by more than the lead.",
        (change.abs() > change.mean()).double().mean() > 0.5,
        most + least < change.mean() / 2,
    )
    page.says(
        "At $K = 1$, where the estimate is the negative ELBO, the affine model is behind. Its estimate falls further and flattens later, and at 5,000 it is ahead.",
        at(affine)[1] > at(plain)[1],
        at(affine)[5_000] < at(plain)[5_000],
        at(affine)[1] - at(affine)[5_000] > at(plain)[1] - at(plain)[5_000],
        at(affine)[500] - at(affine)[5_000] > at(plain)[500] - at(plain)[5_000],
    )
    right, _ = page.printed("batch 16, k = 5: right #, mixed up #")
    page.says("where the right one is a little over 80?", 80 < right < 85)
    scaled = page.printed(r"(?m)^[01]\.\d\d # #$")
    page.says(
        "In the right order every step towards the mean pose costs. Mixed up, every step gains",
        scaled[::2] == sorted(scaled[::2]),
        scaled[1::2] == sorted(scaled[1::2], reverse=True),
    )
    page.says("The book's records of both models (seed 0, 2,000 test images)")
    spread = page.printed(r"digits' u under the posterior: \['#', '#', '#', '#', '#', '#'\]")
    page.says(
        "The used $u_i$ of real digits are spread less widely than the prior's, whose spread is 1",
        *(s < 0.8 for s, nats in zip(spread, of_u, strict=True) if nats > 0.1),
    )
    page.says(
        "Two falling curves. The affine one starts a little above the plain one and ends well below it. The affine model's falls more steeply, and has not quite levelled off at 5,000 samples.",
        0 < at(affine)[1] - at(plain)[1] < 1,
        at(plain)[5_000] - at(affine)[5_000] > 1.5,
        at(affine)[1_000] - at(affine)[5_000] > 0.4,
    )
    below, first = page.asserted(r"kl_buggy\[-1\] < # < # < kl_healthy")
    page.says("With the bug, $\\mathrm{KL}(u)$ falls to below one nat", below == 1 < first)
    page.says(
        "for as many epochs as it took to die $\\mathrm{KL}(u)$ stays below one nat",
        page.asserted(r"max\(kl_mended\) < #") == [1],
        page.asserted(r"train_warp\((?:buggy|mended), #, mixed_up") == [14, 14],
    )
    page.says(
        "the same bug leaves $\\mathrm{KL}(u)$ at several nats from the second epoch to the seventh, where the figure ends (the study's optimizer had twice as many).",
        page.asserted(r"min\(kl_by_adam\[1:\]\) > #")[0] > 2,
        page.asserted(r"train_warp\(by_adam, #, mixed_up=True") == [14 / 2],
    )
    moves = page.asserted(r"spread_of_theta\((?:buggy|mended|by_adam)\) < #")
    page.says(
        "$W$ is nearly zero, and the grid is the same for all digits", moves[:2] == [0.01] * 2
    )
    page.says(
        "Then $u$ costs nats, and the poses are nearly the same for all digits anyway.",
        max(moves) <= 0.03,
        page.asserted(r"< 0.01 < # < spread_of_theta\(healthy\)") == [0.1],
    )
    page.leaves("The ELBO is $\\log p(x)$ less a gap (chapter 1)", "an encoder that fits less well")
    page.says("a second one that falls to nearly zero", below <= 1)
    page.leaves(
        "if you log it separately from $\\mathrm{KL}(z)$",
        "new affine model with two draws for each of 1,500 bundled digits",
        "After 14 epochs we mend the bug",
        "Left, a curve that stays high",
        "a third one that stays there",
        "Two short curves: one rises slowly from near zero, the other rises at once and stays high.",
    )
    buys = page.printed(r"u_\d: KL # nats, recon rises by #")
    worth = sorted(
        (rise / nats, nats, rise) for nats, rise in zip(buys[::2], buys[1::2], strict=True) if nats
    )
    page.says(
        "The two latents that cost most are worth most by far: without them recon rises by more than sixty nats each.",
        min(rise for *_, rise in worth[-2:]) > 60,
        sorted(buys[::2])[-2:] == sorted(nats for _, nats, _ in worth[-2:]),
    )
    page.says(
        "Recon rises by twenty to twenty-five nats for each nat of KL there, and by only a few for the others. Without a latent of 0.0 nats it does not rise.",
        all(rise < 0.1 for nats, rise in zip(buys[::2], buys[1::2], strict=True) if not nats),
        all(20 < ratio < 26 for ratio, *_ in worth[-2:]),
        all(ratio < 7 for ratio, *_ in worth[:-2]),
    )
    page.says(
        "(This is what the trained model loses without a latent, not what it gained by having it: the plain model has no $u$ at all, and its recon is only a few nats higher.)",
        2 < record_of("plain-vae").recon.mean - record_of("affine-vae").recon.mean < 5,
    )
    (turn,) = page.printed(r"in radians +: mean +[\d.]+, spread #")
    across, down, shear = (
        page.printed(rf"{part} *: mean +[\d.]+, spread #")[0]
        for part in ("stretch along x", "stretch along y", "shear")
    )
    page.says(
        "The shear varies most, and the stretch along $x$ nearly as much",
        shear > across > 0.75 * shear > down,
        shear > turn,
    )
    page.says(
        "In radians the turn varies four times less than the shear.", round(shear / turn) == 4
    )
    own, copies = page.printed("# of # copies meet their own pose")
    page.says("nearly every canonical image meets the pose of another digit:", own / copies <= 0.1)
    weights = 256 * 6
    size = page.printed("(?:plain  |affine )#(?:,|$|\n)")[:2]
    page.says(
        "the decoder's first layer loses six columns of 256 weights, and the map adds 42 numbers.",
        size[0] - size[1] == weights - 42,
    )


CLAIMS = {"01_vae": chapter_1, "02_spatial_transformers": chapter_2, "03_affine_tvae": chapter_3}
