"""What chapter 4 says of results. nbval holds what it prints, so it may be read."""

import itertools
import math
import statistics

import torch

from tvae_core.experiments import measure, results
from tvae_core.experiments.configs import DECODERS
from tvae_core.experiments.results import record_of
from tvae_core.experiments.study import PRINTED

from .page import Page, word
from .sources import (
    VAES,
    ahead,
    at,
    beyond_luck,
    falls_and_flattens,
    mean,
    over_seeds_at,
    paired,
    time,
)


def chapter_4(page: Page) -> None:
    time(page, "tps-vae")
    kinds = [
        mean(f"{m}{look}-iwae5-modern") for look in ("", "-straight") for m in ("affine", "tps")
    ]
    page.says(
        "That encoder turns out to matter more than the choice of warp.",
        min(kinds[0] - kinds[2], kinds[1] - kinds[3])
        > 3 * max(abs(kinds[0] - kinds[1]), abs(kinds[2] - kinds[3])),
    )
    page.says(
        "with a better recipe of training both warps lose their lead over the plain model ([chapter 7](07_together)), and with that encoder both are ahead of it again, by more than two nats.",
        min(kinds[:2]) > mean("plain-iwae5-modern"),
        max(kinds[2:]) < mean("plain-iwae5-modern") - 2,
    )
    records = dict(zip(DECODERS, map(record_of, VAES), strict=True))
    plain, affine, tps = records.values()
    larger = [row["epoch"] for row in tps.curves if row["kl_u"] > row["kl_z"]]
    page.says(
        "For about the first ten epochs the KL of u is larger than the KL of z.",
        9 <= len(larger) <= 12,
        larger == [*range(1, len(larger) + 1)],
    )
    page.says(
        "the negative ELBO and the reconstruction loss fall; the KL of z and the KL of u are drawn as separate curves.",
        falls_and_flattens([-row["bound"] for row in tps.curves]),
        falls_and_flattens([row["recon"] for row in tps.curves]),
    )
    page.says(f"We count those above {results.INFORMATIVE} nats, in all three models so far.")
    page.leaves("at 0 it says nothing", "Once a latent is unused its KL is 0")
    of_u = sorted(tps.kl_per_latent[-18:], reverse=True)
    used = sum(nats > results.INFORMATIVE for nats in of_u)
    page.says(
        "Left, 18 bars for u: the first few between one and three nats, the rest zero.",
        all(1 < nats < 3 for nats in of_u[:used]),
        all(nats < 0.02 for nats in of_u[used:]),
    )
    for phrase in (
        "All three models use far fewer than their 60 latents; only the affine model uses nearly all of its $u$.",
        "Offered 18 directions, the model uses a few.",
    ):
        page.says(
            phrase,
            used <= 5,
            sum(nats > results.INFORMATIVE for nats in affine.kl_per_latent[-6:]) == 5,
            all(
                sum(x > results.INFORMATIVE for x in r.kl_per_latent) < 15 for r in records.values()
            ),
        )
    bends = page.printed(r"direction \d: singular value [\d.]+, share that bends #%")
    page.says("The strongest two are nearly affine", max(bends[:2]) < 20)
    page.says("Those after them mostly bend.", min(bends[2:]) > 50)
    page.says(
        "The strongest are close to slant and width; the next ones bend.",
        max(bends[:2]) < 20,
        min(bends[2:]) > 50,
        min(slant_and_width()) > 0.75,
    )
    (points,) = page.printed("share of the control points' motion that bends: #%")
    (ink,) = page.printed("under the ink, share that bends: #%")
    recon = page.printed(r"recon +#, the ink moves by")
    (by_points, by_ink) = page.printed(r"without the .*? bend .*the ink moves by # pixels")
    of_class = page.printed(r"canonical, .*? variance within classes: #%")
    page.says(
        f"They are, and a little more so than the affine model's: by the measure of chapter 3, {of_class[1]:.0f} per cent of their variance lies within the classes, where the affine model's canonical images have {of_class[0]:.0f}.",
        of_class[1] < of_class[0],
    )
    page.says("Most of the motion is affine, even more so under the ink.", ink < points < 50)
    page.says(
        f"We took away {points:.0f} per cent of the energy of the control points, and lost more than thirty nats. This moved the ink by {by_points} pixels, because the bend of the control points also shifts and stretches what lies under the ink. "
        f"To take away only what bends there, {ink:.0f} per cent and {by_ink} pixels, costs {word(recon[2] - recon[0])} nats.",
        recon[1] - recon[0] > 30,
        by_points > 1.5 * by_ink,
    )
    page.says(
        "The small amount of bending is worth many nats to a model trained to rely on it.",
        recon[1] - recon[0] > 20,
    )
    page.says(
        "A model trained without it draws other canonical images and makes up for most of the loss, as the comparison below shows.",
        0 < affine.recon.mean - tps.recon.mean < (recon[1] - recon[0]) / 5,
    )
    size = page.printed(r"u +\d+, # parameters")
    page.says(
        "Again 60 latents in all, and again a little smaller than the plain model.",
        len(tps.kl_per_latent) == 60,
        0.98 < size[2] / size[0] < 1,
    )
    page.leaves(
        "These nats are not what the model *gains* by bending",
        "a small error of the encoder costs many nats",
    )
    folds = page.printed(r"negative somewhere in #%")
    page.says(
        "Grids of real digits do not fold; some of those drawn from the prior do.",
        folds[0] == folds[2] == 0,
        1 < folds[3] < 20,
    )
    page.says("a few of the poses from the prior mirror it", 0 < folds[1] < 2)
    (strays,) = page.printed(r"tps    prior : #% have a used u outside")
    page.says(
        "with several latents in use, most draws stray in at least one of them.",
        used > 3,
        strays > 50,
    )
    page.says(
        "Every fold among these draws has such a latent.",
        page.printed(r"and of those that fold #%") == [100],
    )
    (of_draws,) = page.printed("draws from q: #% of the grids fold")
    page.says(
        "Of the thousand digits none has a folded grid, neither at the mean of its $q$ nor at a draw from it.",
        folds[2] == of_draws == 0,
    )
    rows = [r.curves[3:] for r in records.values()]
    kls = [[row["kl_z"] + row["kl_u"] for row in curve] for curve in rows]
    recons = [[row["recon"] for row in curve] for curve in rows]
    lower = [w < p for warped in recons[1:] for p, w in zip(recons[0], warped, strict=True)]
    higher = [w > p for warped in kls[1:] for p, w in zip(kls[0], warped, strict=True)]
    page.says(
        "Training of the three models, from epoch 4 on: with a warp recon is lower and the KL higher.",
        *lower,
        *higher,
    )
    losses = [[-row["bound"] for row in curve] for curve in rows]
    page.says(
        "The three curves of the negative ELBO run close together.",
        max(max(x) - min(x) for x in zip(*losses, strict=True)) < 4,
        max(losses[0][-1], losses[1][-1], losses[2][-1]) - min(loss[-1] for loss in losses) < 0.5,
    )
    page.says(
        "Those of recon are apart, plain well above the two others; those of the KL are apart the other way, plain at the bottom and TPS on top.",
        *(p - max(w) > 3 for p, *w in zip(*recons, strict=True)),
        max(a - t for a, t in zip(*recons[1:], strict=True)) < 1.5,
        kls[0][-1] < kls[1][-1] < kls[2][-1],
    )
    elbos = [r.recon.mean + r.kl_z.mean + r.kl_u.mean for r in records.values()]
    page.says(
        "With a warp, recon is lower and the KL is higher, and in the sum, the ELBO, the three are hard to tell apart.",
        *lower,
        *higher,
        max(elbos) - min(elbos) < 0.7,
    )
    gap, error = paired("tps-vae", "affine-vae")
    page.says(
        "Both warps are well ahead of the plain model, and the spline is ahead of the affine map by a few standard errors.",
        *(nats < -5 * se for nats, se in (paired(w, "plain-vae") for w in VAES[1:])),
        3 < -gap / error < 6,
    )
    page.leaves("was trained from several seeds", "outside its 95 % interval")
    page.leaves(
        "We call a gap *beyond luck* if zero",
        "It is wider than two standard errors, because a few runs",
    )
    page.says(
        "Both warps keep their lead over the plain model.",
        *(ahead(w, "plain-vae") for w in VAES[1:]),
    )
    page.says(
        "The two warps differ by half a nat, and this is beyond luck.",
        ahead("tps-vae", "affine-vae"),
        0.4 < results.gap_over_seeds("affine-vae", "tps-vae").mean < 0.6,
    )
    seeds = [results.over_seeds(name) for name in VAES[1:]]
    luck = [b - a for a, b in itertools.product(*seeds)]
    page.says(
        f"But one run of each would not have shown it: take any of the twelve TPS runs and any of the twelve affine runs, and the difference TPS - affine lies anywhere between ${min(luck):.1f}$ and ${max(luck):.1f}$ nats.",
        {len(runs) for runs in seeds} == {12},
    )
    by_thousand = at(affine)[1_000] - at(tps)[1_000]
    page.says(
        f"The study found {PRINTED['affine'].nll - PRINTED['tps'].nll:.1f} nats in favour of TPS, from one run of each and with 1,000 samples an image. With 1,000 samples, our runs of seed 0 differ by {by_thousand:.2f} nats."
    )
    draws = page.printed("negative ELBO from ten draws #, from one other draw #")
    page.says(
        "Yes, to within 0.15 nats: over 2,000 images",
        *(abs(a - b) < 0.15 for a, b in zip(draws[::2], draws[1::2], strict=True)),
    )
    few, many = ([at(r)[k] for r in records.values()] for k in (1, 5_000))
    page.says(
        f"TPS and plain are level, and the affine model is last, {few[1] - few[0]:.1f} nats behind them.",
        abs(few[2] - few[0]) < 0.05,
    )
    page.says(
        "At 5,000 both warps are ahead of the plain model, TPS by more than two and a half nats.",
        max(many[1:]) < many[0],
        2.5 < many[0] - many[2] < 2.75,
    )
    page.says(
        "The gap between a warped model and the plain one is, if anything, understated",
        *(at(w)[1_000] - at(w)[5_000] > at(plain)[1_000] - at(plain)[5_000] for w in (affine, tps)),
    )
    page.says(
        "At one sample they start close together; with more samples they part, and at 5,000 those of the two warped models lie well below the plain one and have not quite levelled off.",
        max(few) - min(few) < 1,
        max(many[1:]) < many[0] - 1.5,
        *(at(w)[1_000] - at(w)[5_000] > 0.4 for w in (affine, tps)),
    )
    coupled = {
        name: measure.columns(results.measured("coupling", f"{name}-iwae5-modern"))
        for name in ("affine", "affine-straight")
    }
    page.says(
        "With an encoder like this one they do so less than you might expect.",
        coupled["affine"]["posterior"].mean() < coupled["affine-straight"]["posterior"].mean() / 3,
    )
    page.says(
        "With few samples the model with the harder posterior looks *worse* than it is",
        *(many[i] - many[0] < few[i] - few[0] for i in (1, 2)),
    )
    less = page.printed(r"s = [\d.]+: #% of the grids fold")
    page.says("Samples at $s < 1$ fold less.", less == sorted(less), less[0] < less[1])
    by_seed = [[over_seeds_at(name, k) for name in VAES] for k in (1, 5_000)]
    (runs,) = {len(values) for values in by_seed[0]}
    means = [[statistics.mean(values) for values in group] for group in by_seed]
    fell = [a - b for a, b in zip(*means, strict=True)]
    listed = "{:.1f}, {:.1f} and {:.1f}".format
    page.says(
        f"Over {word(runs)} training runs of each model the means at $K = 1$ are {listed(*means[0])} nats for plain, affine and TPS, and no difference is beyond luck.",
        not any(beyond_luck(a, b) for a, b in itertools.combinations(by_seed[0], 2)),
    )
    page.says(
        "At $K = 1$ the estimate is the negative ELBO, and you have seen that the three models are nearly level there.",
        max(at(r)[1] for r in (plain, affine, tps)) - min(at(r)[1] for r in (plain, affine, tps))
        < 0.7,
    )
    page.says(
        f"From $K = 10$ on, with a gap of {at(plain)[10] - at(tps)[10]:.1f} nats, less than half of what it is at 5,000.",
        at(plain)[10] - at(tps)[10] < (at(plain)[5_000] - at(tps)[5_000]) / 2,
        at(plain)[10] > at(affine)[10],
    )
    page.says(
        f"From $K = 1$ to 5,000 it falls by {few[0] - many[0]:.1f} nats for the plain model and by {few[1] - many[1]:.1f} for either warp; "
        f"over {word(runs)} runs of each by {listed(*fell)}, the most for TPS.",
        f"{few[1] - many[1]:.1f}" == f"{few[2] - many[2]:.1f}",
        max(fell) == fell[2],
    )
    page.says(
        "- An NLL from few samples is biased upwards, most where the posterior is hard. This can reverse a ranking.",
        min(plain.ess_median / affine.ess_median, plain.ess_median / tps.ess_median) > 2,
        *(at(w)[1] - at(w)[5_000] > at(plain)[1] - at(plain)[5_000] + 2 for w in (affine, tps)),
        (few[1] > few[0]) != (many[1] > many[0]),
    )
    page.leaves(
        "We can give $q$ a better shape, or train on an objective that is less sensitive to a bad $q$",
        "averages the weights of several draws",
    )
    page.leaves("the true NLL is 0", "gaps of 2, 4.5 and 8 nats")
    page.says(
        "An estimate that rests on the weight of about ten draws is rough for a single image.",
        round(affine.ess_median) == round(tps.ess_median) == 10,
    )
    page.leaves(
        "a TPS model with the study's encoder and one with yours, on 3,000 bundled digits for a dozen epochs",
        "must the folds become fewer?",
        "It takes about half a minute.",
    )
    (wider,) = page.printed("without the tanh, u is spread # times as widely")
    page.says(
        "the $u_i$ are spread more widely. But they are still spread less widely than the prior, and grids from the prior fold nearly as often as with it.",
        1.1 < wider < 1.4,
        len({*page.printed("(?:tanh|free): about # grids in 10 fold")}) == 1,
    )
    page.says(f"$0.1 \\sqrt{{18}} = {0.1 * math.sqrt(18):.2f}$ units of 14 pixels")
    small, torchs = page.printed(r"the grid is off by # pixels \(r.m.s.\)")
    (of_affine,) = Page("03_affine_tvae").printed(
        r"W small, b = 0  recon +# nats; the grid is off by +# pixels"
    )[1:]
    page.says(
        "In all, the grid is off by about as much as there, so the same 0.1 is about as mild.",
        abs(small - of_affine) <= 1,
    )
    there = Page("03_affine_tvae").printed(
        r"(?:W small, b = 0|nn.Linear) +recon +\d+ nats; the grid is off by +#"
    )
    page.says(
        "(`nn.Linear` comes closer to it here than there",
        1 < torchs / small < there[1] / there[0] - 0.5,
    )
    page.says(
        f"$e^{{2}} = {math.exp(2):.0f}$, $e^{{4.5}} = {math.exp(4.5):.0f}$, $e^{{8}} = {math.exp(8):.0f}$"
    )
    page.says("The book's records of all three models (seed 0, 2,000 test images):")


def slant_and_width() -> list[float]:
    """The share of the two strongest directions' energy that is a motion along x, with x or with y."""
    weight = results.load_pretrained("tps-vae").model.cpu().decoder.pose.weight.detach()
    strongest = torch.linalg.svd(weight)[0][:, :2]
    y, x = torch.meshgrid(torch.linspace(-1, 1, 3), torch.linspace(-1, 1, 3), indexing="ij")
    motions = torch.stack([x.flatten(), y.flatten()]) / math.sqrt(6)
    return (motions @ strongest[:9]).square().sum(0).tolist()


CLAIMS = {"04_tps_tvae": chapter_4}
