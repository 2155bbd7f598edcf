"""What chapters 9 and 10 say of results. nbval holds what they print, so it may be read."""

import math
import re

import torch

from tvae_core import diagnostics
from tvae_core.evaluation import ACTIVE, mean_se
from tvae_core.experiments import measure, results
from tvae_core.experiments.configs import DECODERS, RUNS
from tvae_core.experiments.results import record_of

from .page import Page, word
from .sources import ahead, mean
from .sources import by_ais as behind_by_ais


def chapter_9(page: Page) -> None:
    straight, bent = (
        page.printed(rf"{name} *: ELBO #, NLL\(1,000\) #; # % count")
        for name in ("diagonal normal", "bent")
    )
    (exact,) = page.printed("exact NLL #")
    page.says(
        "The bend gains more than a nat of ELBO, and about three times as many draws count. Bent, the NLL is right to the last digit printed. The diagonal normal's is most of a nat too high, although a fifth of its draws count",
        bent[0] > straight[0] + 1,
        2.5 < bent[2] / straight[2] < 3.5,
        bent[1] == exact,
        0.5 < straight[1] - exact < 1,
        0.18 < straight[2] / 100 < 0.23,
    )
    found, bias = page.printed("mean jackknife bias #, true bias #")
    page.says("A part: about a sixth here.", round(bias / found) == 6)
    s = page.asserted(r"D, s, K = 60, #, 5_000")[0]
    (toy,) = page.printed(r"NLL\(5,000\) of 12 images: mean #")
    page.says("Too high, by about half a nat on average.", 0.45 < toy < 0.6)
    page.leaves(
        "in which one single draw has more than half of the weight.",
    )
    narrow = f"{1 - s:.0%} too narrow"
    reverse = 60 * (s**2 / 2 - 0.5 - math.log(s))
    (forward,) = page.printed("KL = # nats, log w spreads")
    page.says(
        f"A $q$ that is too narrow costs less by the first: here {reverse:.1f} nats, against {forward} by the second.",
        reverse < forward,
    )
    page.leaves(
        "Expect higher NLLs than for digits",
        "those with a KL above 0.1 nats",
        "and the toy with two modes had an almost perfect ESS.",
    )
    halves = {
        m: page.printed(rf"(?m)^{m} +# \+- # +# \+- #$")[::2] for m in ("plain", "affine", "tps")
    }
    both = {m: page.printed(rf"(?m)^{m} +# \+- # +# \+- #$") for m in ("plain", "affine", "tps")}
    apart = {m: (a - b) / math.hypot(c, d) for m, (a, c, b, d) in both.items()}
    page.says(
        "with a warp the images with few effective draws are further off; for the plain model the difference could be chance. A high one is no proof. "
        "Even the half of the warped models' images with the higher ESS is off by more than a nat on average",
        *(low > high for low, high in halves.values()),
        *(halves[m][1] > 1 for m in ("affine", "tps")),
        apart["plain"] < 2 < min(apart["affine"], apart["tps"]),
    )
    page.says(
        f"with $s = {s}$: the right place, the right shape, and {narrow} in each of $D = 60$ dimensions"
    )
    page.says(f"a $q$ that is {narrow}.")
    page.leaves(
        "the true NLL is **0 nats**",
        "how far the estimate still has to fall",
        "The truth is 0 nats again.",
        "the truth (the line at 0)",
    )
    page.says(f"The NLL is $\\log 2 = {math.log(2):.3f}$: wrong by a whole lost mode.")
    page.says("trained with the importance-weighted bound of five draws, seed 0.")
    tested = {m: measure.columns(results.measured("ais", f"{m}-iwae5")) for m in DECODERS}
    page.says(
        "Now we run both estimators on the same 100 test images, with the same AIS options as in the BDMC runs above.",
        *(len(c["ais_nll"]) == len(c["is_nll"]) == 100 for c in tested.values()),
        *(
            results.measured(kind, f"{m}-iwae5")["options"]
            == results.measured("ais", "plain-iwae5")["options"]
            for m in DECODERS
            for kind in ("ais", "bdmc")
        ),
    )
    curves = {m: measure.columns(results.measured("nll", f"{m}-iwae5"))["nll"] for m in DECODERS}
    off = {m: c["is_nll"] - c["ais_nll"] for m, c in tested.items()}
    ks = diagnostics.KS
    page.leaves(
        "Right: how many nats a warped model is ahead of the plain one, at each K; bands are one standard error"
    )
    page.says(
        f"For each of {curves['plain'].shape[1]} test images, {ks[-1]:,} draws of $q$ were made"
    )
    page.says(
        "The more draws, the better the warped models look beside the plain one.",
        *((curves["plain"] - curves[m]).mean(1).diff().min() > 0 for m in ("affine", "tps")),
    )
    page.says(
        "Right, two curves that start below zero and rise with the number of draws.",
        *((curves["plain"] - curves[m]).mean(1).diff().min() > 0 for m in ("affine", "tps")),
        *((curves["plain"] - curves[m])[0].mean() < 0 for m in ("affine", "tps")),
    )
    drops = {m: (c[0] - c[-1]).mean() for m, c in curves.items()}
    page.says(
        "the plain model's curve is lowest for few draws, and falls least.",
        min(curves, key=lambda m: curves[m][:3].mean()) == "plain",
        min(drops, key=drops.get) == "plain",
    )
    needed = page.printed("from # to # draws are needed")
    page.says(
        "So 5,000 draws are at the lower end of what is needed.", needed[0] < 5_000 < 2 * needed[0]
    )
    exceed = page.printed(r"all u within -1 to 1 +true u # deviations from q's mean, true z #")
    page.says("the encoder is too sure of itself, as its numbers exceed 1.", min(exceed) > 1)
    (units,) = results.measured("units", "affine-iwae5")["parts"]
    beyond = page.printed(r"q says something about # dimensions of z and # of u")
    page.says(
        f"Of the six dimensions of $u$ we look only at the {word(beyond[1])} that $q$ uses.",
        len(units["kl"]) - units["dim_z"] == 6,
    )
    idle = {
        name: sum(
            kl
            for kl, variance in zip(part["kl"], part["variance"], strict=True)
            if variance <= ACTIVE
        )
        for name in (f"{m}-{o}" for m in DECODERS for o in ("vae", "iwae5"))
        for part in results.measured("units", name)["parts"]
    }
    page.says(
        "(The KLs of all latents that are not active sum to less than 0.2 nats in each model.)",
        len(idle) == 6,
        max(idle.values()) < 0.2,
    )
    page.says(
        "No model uses all of its 60 latents.",
        *(
            sum(nats > results.INFORMATIVE for nats in record_of(f"{m}-{o}").kl_per_latent) < 20
            for m in DECODERS
            for o in ("vae", "iwae5")
        ),
    )
    page.says(f"its variance over images exceeds {ACTIVE}")
    page.says(
        "At $K = 1$, where NLL($K$) is minus the ELBO, the plain model is ahead of both.",
        *(curves["plain"][0].mean() < curves[m][0].mean() for m in ("affine", "tps")),
    )
    above = {m: int((values < 0).sum()) for m, values in off.items()}
    most = max(-values.min().item() for values in off.values())
    page.says(
        "On {}, {} and {} of the 100 images (plain, affine, spline) it is the higher of the two, ".format(
            *above.values()
        )
        + f"by up to {most:.1f} nats.",
        all(len(values) == 100 for values in off.values()),
    )
    few = {m: c["is_ess"] <= c["is_ess"].median() for m, c in tested.items()}
    page.says(
        "Dots at the left, with few effective draws, lie furthest above zero, some by ten nats and more; towards the right they come closer to it, and most with a warp stay above the gray band.",
        max(values.max() for values in off.values()) > 10,
        *((off[m][~few[m]] > 0.1).double().mean() > 0.8 for m in ("affine", "tps")),
        *(off[m][few[m]].max() > off[m][~few[m]].max() for m in off),
        *(off[m][few[m]].max() > 10 for m in ("affine", "tps")),
    )
    below = {m: off[m] < -0.1 for m in off}
    page.says(
        "The dots below the gray band lie nearly all at the left.",
        sum((few[m] & low).sum() for m, low in below.items())
        > 0.85 * sum(low.sum() for low in below.values()),
    )
    noise = {m: (c["is_se"] ** 2 + c["ais_se"] ** 2).sqrt() for m, c in tested.items()}
    page.says(
        "Each time the two agree within two standard errors. Averaged over all 100 images, these cases come to less than a tenth of a nat.",
        *(not (off[m] < -2 * noise[m]).any() for m in DECODERS),
        *(-off[m].clamp(max=0).mean() < 0.1 for m in DECODERS),
    )
    page.says(f"The curves above go to {ks[-1]:,}, on {curves['plain'].shape[1]} test images.")
    page.says(f"these {len(off['plain'])} digits are among the {curves['plain'].shape[1]}")
    gained = {
        m: ((c[ks.index(5_000)] - c[-1]).mean() / off[m].mean()).item() for m, c in curves.items()
    }
    page.says(
        "Ten times the draws bring about two fifths of what AIS brings for the plain model, and about a fifth with a warp.",
        0.35 < gained["plain"] < 0.45,
        all(0.18 < gained[m] < 0.24 for m in ("affine", "tps")),
        ks[-1] == 50_000,
    )
    page.says(
        "**The NLL from 5,000 draws is too high for every model, and not by the same amount: the bias favours the plain one.",
        all(values.mean() > 0.5 for values in off.values()),
        off["plain"].mean() < min(off["affine"].mean(), off["tps"].mean()),
    )
    page.leaves("so a small error in the pose costs many nats", "Gray: within 0.1 nat")
    by_is, by_ais = (
        {m: mean_se(tested["plain"][key] - tested[m][key]) for m in ("affine", "tps")}
        for key in ("is_nll", "ais_nll")
    )
    page.says(
        "By importance sampling neither warp is ahead of the plain model by more than two standard errors on these 100 images; by AIS both are.",
        *(nats < 2 * error for nats, error in by_is.values()),
        *(nats > 2 * error for nats, error in by_ais.values()),
    )
    page.says(
        "The last column is how much of the gap importance sampling hides, as far as AIS can tell, which gives an upper estimate too: on these images, most of what a warp gains.",
        *(by_is[m][0] < by_ais[m][0] / 2 for m in by_ais),
    )
    page.says(
        "On 2,000 images importance sampling shows a lead too: chapter 7.",
        *(ahead(f"{m}-iwae5", "plain-iwae5") for m in ("affine", "tps")),
        *(
            record_of(f"{m}-iwae5").nll.mean < record_of("plain-iwae5").nll.mean - 0.5
            for m in ("affine", "tps")
        ),
    )
    own = {m: measure.columns(results.measured("bdmc", f"{m}-iwae5")) for m in DECODERS}
    wrong = {m: own[m]["is_nll"] - own[m]["lower_nll"] for m in ("affine", "tps")}
    page.says(
        "Unusual poses cannot be the whole reason, since the plain model's images, which have no pose, cost more nats than digits too.",
        *(own[m]["upper_nll"].mean() > tested[m]["is_nll"].mean() + 15 for m in DECODERS),
    )
    long = {m: behind_by_ais(f"{m}-iwae5-long") for m in ("affine", "tps")}
    page.says(
        "There AIS leaves the plain model ahead or level: under the IWAE it is ahead of the spline by "
        "{:.1f} $\\pm$ {:.1f} nats, and of the affine map by {:.2f} $\\pm$ {:.2f}, which is less than two standard errors.".format(
            *long["tps"], *long["affine"]
        ),
        long["tps"][0] > 3 * long["tps"][1],
        0 < long["affine"][0] < 2 * long["affine"][1],
        *(nats > 3 * error for nats, error in (behind_by_ais(f"{m}-multi5-long") for m in long)),
    )
    runs = ("plain-iwae5-long", "affine-straight-iwae5-long")
    plain, straight = (measure.columns(results.measured("ais", run)) for run in runs)
    lead = mean(runs[0]) - mean(runs[1])
    gift = (plain["is_nll"] - plain["ais_nll"]) - (straight["is_nll"] - straight["ais_nll"])
    page.says(
        "with it the affine map is ahead by about two nats, in one run of 200 epochs",
        1.8 < lead - gift.mean() < 2.3,
        1.8 < (plain["ais_nll"] - straight["ais_nll"]).mean() < 2.3,
        RUNS[runs[1]].epochs({5: 50}) == 200,
        len(results.over_seeds(runs[1])) == 1,
    )
    page.says(
        "For the warped models, importance sampling does *worse* on images that they made themselves than on digits, and the worst image is off by many nats.",
        *(wrong[m].mean() > off[m].mean() for m in wrong),
        *(wrong[m].max() > 100 for m in wrong),
    )
    page.says(
        "Their mean gap estimates a bound on how far AIS is wrong on average on such images, and it is smaller than the error of importance sampling.",
        *(
            (c["lower_nll"] - c["upper_nll"]).mean() < (c["is_nll"] - c["lower_nll"]).mean()
            for c in own.values()
        ),
    )
    gaps = {
        m: (c["lower_nll"] - c["upper_nll"]).sort(descending=True).values for m, c in own.items()
    }
    page.says(
        "With a warp this estimate is itself uncertain, as its standard error says: three of the affine model's images and one of the spline's make nearly all of the mean gap.",
        *(mean_se(gaps[m]).se > gaps[m].mean() / 3 for m in ("affine", "tps")),
        *(gaps[m][:n].sum() / gaps[m].sum() > 0.9 for m, n in (("affine", 3), ("tps", 1))),
    )
    page.says(
        f"on {len(own['plain']['is_nll'])} images that each of them has made itself",
        *(len(c["is_nll"]) == len(own["plain"]["is_nll"]) for c in own.values()),
    )
    page.leaves("The image whose NLL falls most.")
    page.leaves("*IS-5,000* is importance sampling from 5,000 draws")
    page.leaves("If it falls by many nats", "to compare two numbers that measure different things")
    (fall,), (within,) = (
        page.printed(r"largest fall # nats"),
        page.printed("with u within the range of the tanh # nats"),
    )
    page.says(
        f"With poses inside the tanh's range the largest fall shrinks from {fall:.0f} nats to {within:.0f}."
    )
    page.says(
        "Each number is the largest of only 30 images.",
        "moved(affine, latents[:30], own[:30])" in page.code,
        "within = latents[:30].clone()" in page.code,
    )
    far = page.printed(
        r"(?:all u within -1 to 1|some u beyond) +true u # deviations from q's mean, true z #"
    )
    page.says(
        "Beyond that range it is further off, in $u$ and in $z$ too.",
        far[2] > far[0],
        far[3] > far[1],
    )
    page.says(
        "under the prior $u$ often lies beyond. On the model's own images $q$ is further off where it does.",
        far[2] > far[0],
        far[3] > far[1],
    )
    outside = 2 * (1 - torch.distributions.Normal(0, 1).cdf(torch.tensor(1.0)))
    page.says("The prior puts a third of its mass, in each dimension of $u$", 0.3 < outside < 0.35)
    page.says("So a comparison of models to a tenth of a nat needs one fixed test set")
    (moved,) = page.printed("so over 10,000 images the mean moves by about #")
    assert 0.05 < moved < 0.15
    behind = {
        k: page.printed(rf"{k} +trained on binary is ahead by # \+- # nats")
        for k in ("gray", "density", "fixed")
    }
    page.says(
        f"By the density it is behind, by {-behind['density'][0]:.0f} nats. By cross-entropy, gray or binary, the two are level within two standard errors.",
        *(abs(behind[k][0]) < 2 * behind[k][1] for k in ("gray", "fixed")),
    )
    page.says(
        f"- AIS on {len(off['plain'])} test images shows by how much NLL(5,000) of the three IWAEs of the study's recipe is too high on average: "
        "by at least about {:.1f} nats without a warp, and by {:.1f} and {:.1f} with one.".format(
            *(off[m].mean() for m in ("plain", "affine", "tps"))
        ),
        min(off["affine"].mean(), off["tps"].mean()) > off["plain"].mean(),
    )
    page.leaves(
        "5,000 draws are off by about 0.1 nat",
        "nats of information about the image it carries at most",
    )
    page.says(
        "All this is one training run of each model",
        all(record_of(f"{m}-iwae5").seed == 0 for m in DECODERS),
    )
    too_low = page.printed(r"move first # \+- #")[::2]
    page.says("Too **low**: the model looks better than it is.", max(too_low) < 0)
    page.says(
        "With more steps the ratios come closer to 1, and the error shrinks.",
        too_low == sorted(too_low),
    )


def chapter_10(page: Page) -> None:
    exhibits = len(re.findall(r"(?m)^## \d+\. ", page.text))
    page.says(f"**You will** plant {word(exhibits)} mistakes")
    page.says(f"## Break it on purpose, {word(exhibits)} times")
    page.leaves("A schedule that is one step ahead", "starts below 1")
    page.leaves(
        "1 at the encoder, 6 at the latents, 2 at the grid, 10 and 11 at the output, 3, 4, 5, 8 and 9 at the training on a bound, 7 and 12 at the evaluation"
    )
    price = page.printed(r"KL +[\d.]+ +-> +# nats")[0]
    page.says(f"at a price of {round(price, -3):,.0f} nats.")
    broken, mended = page.printed(r"(?:broken|mended): reconstruction loss #")
    page.says(
        f"The floor of the reconstruction loss on gray digits is about 46 nats, and {mended} on the 200 digits of this exhibit.",
        45 <= Page("01_vae").printed("the floor on these digits: #")[0] < 46,
    )
    nine = word(broken - mended)
    page.says(
        f"About {nine} nats, before any warp has done anything. Even with a perfect decoder a transformer VAE with this mistake would be {nine} nats behind, until it has learned a warp that undoes it."
    )
    axes = page.printed(r"MIWAE\( *\d+, +\d+\): broken #, mended #")
    page.says(
        "Its number is the worse one for $m < k$, and the better one for $m > k$: at $(32, 2)$ by nearly four nats.",
        axes[2] < axes[3],
        axes[4] > axes[5],
        3.5 < axes[4] - axes[5] < 4,
    )
    wrong, right = page.printed("KL weight 0.5: # nats, KL weight 1: # nats")
    (few,) = page.printed("1,000 samples in place of 5,000: # nats")
    page.says(
        "The first part of the mistake makes the model look better by nearly nine nats.",
        8.5 < right - wrong < 9,
    )
    page.says("The second makes it look a little worse.", 0 < few < 1)
    page.leaves("Below are two correct programs and eight broken ones for the KL")
    (strip,) = page.printed(r"the strip costs # nats broken")
    page.says(
        "- Two of the mistakes cost a *warp* many nats (2, 10) and leave the plain model alone.",
        broken - mended > 8,
        strip > 70,
    )
    surrogate = page.printed(r"too high by +#")
    lottery = page.printed(r"printed # nats against the truth")
    page.says(
        f"The best of ten looks {word(-lottery[0])} nats better than it is.",
        abs(lottery[1]) < 0.1,
    )
    alive = page.printed("mean over those #, over all images # nats")
    page.says(
        "- Four of them flatter: the mean over survivors (3), the KL weight kept in the NLL (7), the surrogate's value (8), the lottery (12). "
        "A fifth, the wrong axis (5), flatters when there are more groups than draws in each.",
        alive[0] > alive[1],
        wrong < right,
        surrogate[0] > 0,
        lottery[0] < -1 < lottery[1],
    )


CLAIMS = {"09_nll": chapter_9, "10_pitfalls": chapter_10}
