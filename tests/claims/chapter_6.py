"""What chapter 6 says of results. nbval holds what it prints, so it may be read."""

import itertools
import math
import statistics

from tables import base

from tvae_core.experiments import results
from tvae_core.experiments.configs import DECODERS, RUNS
from tvae_core.experiments.results import gap_over_seeds, over_seeds, record_of
from tvae_core.experiments.study import PRINTED

from .chapter_8 import snr
from .literature import BURDA
from .page import Page, word
from .sources import FIVE, ahead, at, in_reader, mean, on_h100, paired

PLAIN = (
    "plain-multi1",
    "plain-multi5",
    "plain-iwae5",
    "plain-multi50",
    "plain-iwae50",
    "plain-vae-binarized",
)


def chapter_6(page: Page) -> None:
    both = ("plain-multi5", "plain-iwae5")
    page.says(
        f"Training takes about half a minute on an H100, and about {word(in_reader(*both))} minutes in the `reader` profile on a CPU, half of that if chapter 5 has been run.",
        20 < on_h100(*both) < 40,
        0.4 < in_reader("plain-multi5") / in_reader(*both) < 0.6,
    )
    one = page.asserted(r'ratios\["IWAE", 1\]\] == \[#, #\]')
    fifty = page.asserted(r'ratios\["IWAE", 50\]\] == \[#, #\]')
    rises = page.asserted(r"\(round\(e_multi\), round\(d_multi\)\) == \(#, #\)")
    page.says(
        f"From one draw to 50 the IWAE's signal-to-noise ratio rises from {one[0]} to {fifty[0]} for the encoder and from {one[1]} to {fifty[1]} for the decoder. "
        f"The ratio of the multi-sample VAE rises {word(rises[0])}fold and {word(rises[1])}fold."
    )
    trained = snr("plain", "iwae", "encoder")
    page.says(
        f"(In theory it is $\\sqrt{{50}} = {math.sqrt(50):.1f}$ for both; with 16 repetitions a ratio is only roughly known. This model was trained on the ELBO; "
        "for one that was trained on $\\mathcal L_5$, chapter 8 finds that the encoder's ratio falls.)",
        trained[64] < trained[1],
    )
    page.says(
        "In a model that was trained on the ELBO, the IWAE's signal-to-noise ratio rises far less with $k$, for the encoder least.",
        fifty[0] / one[0] < fifty[1] / one[1] < min(rises) / 3,
    )
    once, copies = page.printed("k = 50: encode once #, encode copies #")
    page.says("With 50 draws, encoding once saves half,", 0.4 < 1 - once / copies <= 0.52)
    seconds = page.printed(r"about +# s an epoch")
    page.says(
        "Time grows more slowly than $k$",
        max(seconds[1:3]) < 4 * seconds[0],
        max(seconds[3:5]) < 25 * seconds[0],
        max(seconds[3] / seconds[1], seconds[4] / seconds[2]) < 7,
    )
    (share,) = page.printed("largest share of the 100 images: #")
    page.says("that image takes most of the share", share > 0.5)
    page.says(
        "the multi-sample line rises with a constant slope on logarithmic axes, while the importance-weighted line rises much less.",
        max(fifty[0] / one[0], fifty[1] / one[1]) < 2 < min(rises) / 3,
    )
    page.says("Both use five draws", *(RUNS[name].k == 5 for name in both))
    scatter = page.printed(r"log-weights of one image scatter by # nats; k = 1: #, k = 50: #")
    page.says(
        "wants each draw to be good, so its draws differ less. The IWAE lets them stray.",
        2 * scatter[0] <= scatter[3],
    )
    page.says(
        "Its draws differ less, and its ELBO lies closer to its own $\\log p(x)$.",
        scatter[2] - scatter[1] < scatter[5] - scatter[4],
    )
    for name in ("plain-multi1", "plain-vae-binarized"):
        page.says(f"| `{name}` | {RUNS[name].k} | the ELBO |")
    for kind, objective in (("multi", "multi-sample ELBO"), ("iwae", "IWAE")):
        names = [f"plain-{kind}{k}" for k in (5, 50)]
        page.says(
            "| `{}`, `{}` | {}, {} | ".format(*names, *(RUNS[name].k for name in names)) + objective
        )
    page.says(
        "The book has six kinds of runs of the plain model on binary pixels with the study's recipe, four of them with several seeds:",
        sum(len(over_seeds(name)) > 1 for name in PLAIN) == 4,
        len(PLAIN) == 6,
        len({record_of(name).config["optimizer"] for name in PLAIN}) == 1,
    )
    runs = {name: over_seeds(name) for name in PLAIN}
    gap, error = paired("plain-multi5", "plain-multi1")
    page.says(f"One draw beats the average of five by {word(gap / error)} standard errors.")
    single = runs["plain-multi1"]
    page.says(
        f"By {word(max(single) - min(single))} nats, from {min(single):.1f} to {max(single):.1f}. That is more than any of the gaps above between one draw, "
        "an average of draws and the KL in closed form; only the gains of the IWAE are larger. The run with one draw that we compared with was a lucky one.",
        *(
            (abs(paired("plain-multi1", name)[0]) > max(single) - min(single)) == ("iwae" in name)
            for name in PLAIN[1:]
        ),
        single[0] == min(single),
    )
    page.leaves(
        "We now have three questions to ask",
        "its gradient gets clearer too, but more slowly.",
        "The decoder may follow the tighter one, $\\widehat{\\mathcal L}_k$, and the encoder the one whose gradient is less noisy",
        "call a gap beyond luck as in chapter 4",
        "of the runs of the ELBO, those with less noise should have more latents in use.",
    )
    closed = gap_over_seeds("plain-vae-binarized", "plain-multi5")
    iwae = -gap_over_seeds("plain-iwae5", "plain-multi5").mean
    page.says(
        "The tighter bound gains many nats with five draws, and its one run with 50 draws gains even more.",
        iwae > 6,
        runs["plain-iwae50"][0] < min(runs["plain-iwae5"]),
    )
    nothing = (
        not ahead("plain-multi5", "plain-multi1"),
        runs["plain-multi50"][0] > min(runs["plain-multi1"]),
    )
    page.says("Averaging more draws brings no gain that these runs could detect.", *nothing)
    page.says(
        "- A less noisy gradient from more draws brings no gain that these runs could detect.",
        *nothing,
    )
    half = (closed.beyond_luck, -1.65 < closed.mean < -1.35)
    page.says(
        "One draw with a closed-form KL ends ahead of five draws with an estimated KL, by a nat and a half.",
        *half,
    )
    page.says(
        "One draw with its KL in closed form beats five draws with an estimated KL by a nat and a half.",
        *half,
    )
    clean = gap_over_seeds("plain-vae-binarized", "plain-multi1")
    page.says(
        "It points the same way, but with three runs on one side it could still be luck.",
        clean.mean < 0,
        not clean.beyond_luck,
        len(over_seeds("plain-multi1")) == 3,
    )
    page.says(
        "With only three runs of `plain-multi1` the 95 % interval of a gap is wide: it reaches more than three standard errors to either side.",
        *(
            gap.margin > 3 * gap.error
            for gap in (
                gap_over_seeds(name, "plain-multi1")
                for name in ("plain-multi5", "plain-iwae5", "plain-vae-binarized")
            )
        ),
    )
    page.leaves("the way the study's code does it for its five-draw models")
    page.says("where that is more than a tenth of a nat", results.INFORMATIVE == 0.1)
    used = {name: over_seeds(name, "informative") for name in PLAIN}
    estimated = [n for name in used if "multi" in name for n in used[name]]
    page.says(
        "three quarters of the runs of the ELBO that estimate their KL have seven latents in use and the others eight, while each run with the closed form has eight or nine.",
        {*used["plain-vae-binarized"]} == {8, 9},
        estimated.count(7) >= 0.7 * len(estimated),
        {*estimated} == {7, 8},
    )
    in_use, unused = page.printed("latents in use # times, unused latents about # times")
    page.says("Latents in use are hardly affected", in_use < 1.1)
    page.says(
        "With 50 draws the noise of an unused latent is a seventh of that with one. By the ratio measured above, 16, this is still about twice that of the closed form.",
        round(unused) == 16,
        round(math.sqrt(50)) == 7,
        round(unused / math.sqrt(50)) == 2,
    )
    active = over_seeds("plain-iwae5", "active")
    (odd,) = [i for i, n in enumerate(active) if n != used["plain-iwae5"][i]]
    page.says(
        f"By the variance it has {active[odd]} active latents, and {word(active[odd] - used['plain-iwae5'][odd])} of them carry next to no information."
    )
    page.says(
        f"One run of the IWAE, that of seed {base.seeds_of('plain-iwae5').records[odd].seed}, shows why we count by the KL."
    )
    fifty, longer = (
        sum(len(over_seeds(f"plain-{o}-{recipe}")) for o in ("vae", "multi5", "iwae5"))
        for recipe in ("modern", "long")
    )
    page.says(
        "and add the runs of a better recipe (chapter 7), nearly half of them trained four times as long.",
        0.45 < longer / (fifty + longer) < 0.5,
    )
    groups = {False: [], True: [], "better": []}
    kinds = {}
    for name in results.recorded():
        if name.startswith("plain-") and "wide" not in name and record_of(name).binary:
            better = record_of(name).config["optimizer"] != "adadelta"
            points = [*zip(over_seeds(name, "informative"), over_seeds(name), strict=True)]
            groups["better" if better else "iwae" in name] += points
            kinds[name] = {n: statistics.mean(y for x, y in points if x == n) for n, _ in points}
    points = [point for group in groups.values() for point in group]
    counts = {n: [y for x, y in points if x == n] for n in sorted({x for x, _ in points})}
    flat = [y for n in counts if n >= 17 for y in counts[n]]
    page.says(
        f"Points that fall along one bent line, from about {statistics.mean(counts[7]):.0f} nats at seven latents steeply to {statistics.mean(counts[13]):.0f} at thirteen; "
        f"from seventeen on they lie in a flat cloud between {math.floor(min(flat))} and {max(flat):.0f}.",
        min(counts) == 7,
        13 in counts,
        not {14, 15, 16} & {*counts},
    )
    steps = [
        nats[n] - nats[n + 1]
        for name, nats in kinds.items()
        if record_of(name).config["optimizer"] == "adadelta"
        for n in nats
        if n + 1 in nats
    ]
    page.says(
        f"Among runs of the same kind with the study's recipe, each further latent in use comes with an NLL that is lower by {word(min(steps))} to {word(max(steps))} nats."
    )
    page.says(
        f"Here two runs often differ by one latent in use, which comes with {word(min(steps))} to {word(max(steps))} nats.",
        all(len({*used[name]}) > 1 for name in PLAIN if len(used[name]) > 1),
    )
    tight = mean("plain-iwae5", "informative") - mean("plain-multi5", "informative")
    best = [
        mean(f"plain-{o}-{r}", "informative") - mean(f"plain-{o}", "informative")
        for o in ("iwae5", "multi5")
        for r in ("modern", "long")
    ]
    page.says(
        "- *The tighter bound* adds three or four latents with five draws.",
        3 < tight < 4,
    )
    page.says("- *The better recipe* adds nine or more.", min(best) > 9)
    most = max(max(counts[n]) - min(counts[n]) for n in counts if n >= 17)
    page.says(
        "runs with the same count lie up to about two and a half nats apart", 2.25 < most < 2.75
    )
    page.says("With that many the curve is flat", max(flat) - min(flat) < 3)
    shared = [{n for n, _ in group} for group in groups.values()]
    page.says(
        "But no two of the three groups share a count, so a difference of a nat between groups could hide in the curve.",
        *(not a & b for a, b in itertools.combinations(shared, 2)),
    )
    page.leaves("Where the times of two runs with the same $k$ differ")
    signs = [gap_over_seeds(f"{m}-multi5", f"{m}-iwae5").mean for m in DECODERS]
    page.says(
        "As printed, the IWAE is the *worse* of the two, for all three models. That is not what we found.",
        *(row.headed_iwae5 > row.headed_multi5 for row in PRINTED.values()),
        *(gap > 0 for gap in signs),
    )
    page.says("In sign, our gap agrees with the second reading for every model.")
    page.says(
        f"print {BURDA['multi5']} for the multi-sample VAE and {BURDA['iwae5']} for the IWAE."
    )
    estimates = [at(record_of(f"{m}-{o}")) for m, o in FIVE]
    shifts = [nll[1_000] - nll[5_000] for nll in estimates]
    page.says(
        "the study drew 1,000 importance samples where we draw 5,000, and that shifts some models more than others.",
        max(shifts) > 2 * min(shifts),
    )
    page.says(
        "The difference is tenths of a nat (chapter 4), and the printed gaps are larger than that.",
        *(0.1 < shift < 0.7 for shift in shifts),
        *(row.headed_iwae5 - row.headed_multi5 > 1.5 for row in PRINTED.values()),
    )
    page.says(
        "usually a thin 1, less at most $\\log 100 = 4.6$ nats", round(math.log(100), 1) == 4.6
    )
    (stray,) = page.printed("a pixel of the IWAE varies # times as much")
    page.says(
        "The number under the picture is for 200 digits: from draw to draw, a pixel of the IWAE varies by more than half as much again.)",
        1.5 < stray < 1.75,
    )
    losses = page.printed(r"(?:multi|iwae ) (?:first|kept) draw: reconstruction loss # nats")
    page.says(
        "The IWAE's falls more, by more than twice as much.",
        losses[2] - losses[3] > 2 * (losses[0] - losses[1]) > 0,
    )
    over_images = -page.printed(r"over draws [\d-]+ nats, over images # nats")[0]
    over_draws = -page.printed(r"over draws # nats, over images")[0]
    page.says("The bound looks dozens of nats *better*.", 24 < over_draws - over_images < 100)
    page.says(
        f"A number that beats the best published one by {round(BURDA['iwae5'] - over_images, -1):.0f} nats is a bug"
    )
    page.says(
        "- In these runs the tighter bound gives the better model: by many nats for the plain one, by two to three for the warped ones.",
        signs[0] > 6,
        round(signs[2]) == 2,
        round(signs[1]) == 3,
    )
    page.says(
        "It keeps more latents in use.",
        *(
            mean(f"{m}-iwae5", "informative") > mean(f"{m}-multi5", "informative") + 1.5
            for m in DECODERS
        ),
    )
    page.leaves(
        "There are better estimators of the same gradient",
        "We do not know how much of our gap would remain after thousands of epochs",
    )
    page.says(
        f"Burda et al., who trained for {BURDA['epochs']:,} epochs, find about {word(BURDA['multi5'] - BURDA['iwae5'])} nat between the multi-sample VAE and the IWAE at $k = 5$; after 50 epochs, we find several.",
        iwae > 5,
        record_of("plain-iwae5").config["epochs"] == 50,
    )
    left = [mean(f"plain-multi5-{r}") - mean(f"plain-iwae5-{r}") for r in ("modern", "long")]
    page.says(
        f"(With the better recipe of [chapter 7](07_together) {word(10 * min(left))} to {word(10 * max(left))} tenths of a nat are left of it, at 50 epochs and at 200: [results](../book/results).)",
        *(gap > 0 for gap in left),
        record_of("plain-iwae5-long").config["epochs"] == 200,
    )


CLAIMS = {"06_multi_sample": chapter_6}
