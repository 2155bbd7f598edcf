"""What chapters 8 to 10 say of results. nbval holds what they print, so it may be read."""

import itertools
import math
import re
import statistics

import torch

from tvae_core import diagnostics
from tvae_core.evaluation import ACTIVE, mean_se
from tvae_core.experiments import measure, results
from tvae_core.experiments.configs import DECODERS, RUNS
from tvae_core.experiments.results import record_of

from .literature import RAINFORTH
from .page import Page, word
from .sources import by_ais as behind_by_ais
from .sources import mean


def snr(model: str, estimator: str, block: str, kind: str = "snr") -> dict[int, float]:
    """Signal to noise of a block as one vector, for each number of draws."""
    parts = results.measured(kind, f"{model}-iwae5")["parts"]
    return {p["k"]: p["snr"][block]["whole"] for p in parts if p["estimator"] == estimator}


def dreg_over_iwae(model: str, block: str) -> tuple[list[float], float, float]:
    """DReG's ratio over the IWAE's for each k, their geometric mean and its error."""
    base, ours = (snr(model, name, block) for name in ("iwae", "iwae, dreg"))
    factors = [ours[k] / base[k] for k in ours if k > 1]
    logs = [math.log(factor) for factor in factors]
    gain = math.exp(statistics.mean(logs))
    return factors, gain, gain * statistics.stdev(logs) / math.sqrt(len(logs))


def chapter_8(page: Page) -> None:
    limits = [page.printed(rf"\n *{draws} +# \+- # +# +# \+- # +#") for draws in (32, 64, 128)]
    page.says(
        "From about thirty draws on, the decoder's ratios lie within one per cent of the dashed limits, and the encoder's within two of their standard errors.",
        all(abs(row[0] / row[2] - 1) < 0.01 for row in limits),
        all(abs(row[3] - row[5]) < 2 * row[4] for row in limits),
    )
    page.leaves(
        "A budget of 64 draws in M groups of 64/M.",
        "M = 1 is the IWAE, M = 64 the ELBO.",
        "With 64 groups of one draw MIWAE is the ELBO",
        "100 copies each, their median and the middle 80%",
        "rises from near zero to that of the ELBO",
    )
    ends = {
        name: page.printed(rf"K = {name} +# \+- # +# \+- #") for name in ("1", "64", "64, DReG")
    }
    arrives = {
        name: page.printed(rf"K = {name} +# \+- # +# \+- # +#")[4] for name in ("1", "64, DReG")
    }
    page.says(
        "With DReG, 64 draws arrive first, and stay closest to 1. One draw arrives too, and scatters more. "
        "The 64 reparameterized draws have not arrived after 150 steps: they cost 64 times as much as one draw and gave a *worse* encoder.",
        arrives["64, DReG"] < arrives["1"],
        ends["64, DReG"][2] < ends["1"][2] < ends["64"][2],
        ends["64"][0] > 1.2,
    )
    (limit,) = page.printed(r"encoder # / sqrt\(K\)")
    page.says(
        "down to half a hundredth at ten thousand draws.",
        abs(limit / math.sqrt(10_000) - 0.005) < 0.0005,
    )
    fits = {
        name: page.printed(rf"(?m)^{re.escape(name)} +# \+- #$")
        for name in ("IWAE", "IWAE, DReG", "MIWAE(8, k/8)", "CIWAE(0.5)")
    }
    late = [16, 32, 64, 128]
    (toy_gain,) = page.printed(r"times IWAE's ratio at k = 128: # \+- ")
    # Each dot is a ratio of 20,000 gradients, with the error 1 / sqrt(20,000).
    error = torch.tensor(late).double().sqrt() / limit / math.sqrt(20_000)
    design = torch.stack([(torch.tensor(late) / 128).log(), torch.ones(4)], 1).double()
    slope_error, last_error = (torch.linalg.pinv(design).square() @ error**2).sqrt().tolist()
    page.says(
        "DReG's and CIWAE's rise.",
        all(fits[name][0] > 0.4 for name in ("IWAE, DReG", "CIWAE(0.5)")),
    )
    page.says(
        "MIWAE's falls about as fast as the IWAE's, with a slope of "
        f"${fits['MIWAE(8, k/8)'][0]:.2f}$ against ${fits['IWAE'][0]:.2f}$, and lies higher: "
        f"at 128 draws by a factor of {toy_gain}, nearly the factor 8 of the theory.",
        7 < toy_gain < 8,
    )
    page.says(
        "The errors in the table come from the scatter of four dots about a line, so they may be too small. "
        "At the right end each dot of the IWAE's curve is known to about 15 per cent only. "
        f"This alone allows an error of {slope_error:.2f} in its slope and of {toy_gain * last_error:.1f} in the factor.",
        0.14 < error[-1] < 0.17,
        max(fits["IWAE"][1], fits["MIWAE(8, k/8)"][1]) < slope_error,
    )
    page.says(
        "And the groups of MIWAE have only 2 to 16 draws here",
        [k // 8 for k in late][:: len(late) - 1] == [2, 16],
    )
    groups = {m: page.printed(rf"(?m)^ +{m} +# \+- # +# \+- # +# \+- #") for m in (1, 64)}
    page.says(
        "the encoder's curve rises steeply, from below 0.1 with one group to nearly 5 with sixty-four",
        groups[1][4] < 0.1,
        4.5 < groups[64][4] < 5,
    )
    (power,) = page.printed(r" 1 latents: E r\^2 = #")
    page.says(f"$\\operatorname{{Var}} r = \\mathbb E\\, r^2 - 1$ is about {power - 1:.1f}.")
    page.says(f"is the $d$-th power of {power}.")
    gaps = page.printed(r"(?:meant|swapped) +# \+- # +# \+- #")
    page.says(
        "the encoder's gradients are many times clearer. Only the bound is worse.",
        gaps[6] > 6 * gaps[2],
        gaps[4] > 4 * gaps[0],
    )
    (apart,) = page.printed(r"IWAE, STL's cut +# \+- # +# \+- # +#")[4:]
    page.says("Only for the last, by more than a hundred standard errors.", apart > 100)
    clearer = page.printed(r"(?:DReG|STL's cut) +# \+- #\n")
    page.says(
        f"its signal-to-noise ratio is better than DReG's ({clearer[2]:.1f} against {clearer[0]:.1f}).",
        clearer[2] > clearer[0],
    )
    start = {
        (n, b): snr("plain", n, b, "start")
        for n in ("iwae", "iwae, dreg")
        for b in ("encoder z", "decoder")
    }
    rise = {key: curve[64] / curve[1] for key, curve in start.items()}
    page.says(
        "Before training the IWAE's encoder loses what its decoder gains.",
        rise["iwae", "encoder z"] < 1 / 4 < 4 < rise["iwae", "decoder"],
    )
    page.says(
        "Encoder: before training the reparameterized curve falls steeply and DReG's stays far above it; after training the reparameterized curve is nearly level. "
        "Decoder: before training both curves rise steeply together, after training the curve rises slowly.",
        start["iwae, dreg", "encoder z"][64] > 5 * start["iwae", "encoder z"][64],
        snr("plain", "iwae", "encoder z")[64] / snr("plain", "iwae", "encoder z")[1] > 0.6,
        rise["iwae, dreg", "decoder"] > 4,
        1 < snr("plain", "iwae", "decoder")[64] / snr("plain", "iwae", "decoder")[1] < 2,
    )
    both = ("plain", "affine")
    grew = {
        (m, name, block): snr(m, name, block)[64] / snr(m, name, block)[1]
        for m, name, block in itertools.product(both, ("elbo", "iwae"), ("encoder", "decoder"))
    }
    page.says(
        "From one draw to 64, theory has the decoder's ratio rise by $\\sqrt{64} = 8$ and the encoder's fall by as much. The ELBO, whose encoder and decoder should both gain the factor 8, does rise like that, on both sides. "
        "The IWAE does neither: its decoder gains less, its encoder loses less.",
        *(6 < factor < 11 for (_, name, _), factor in grew.items() if name == "elbo"),
        *(
            1 < grew[m, "iwae", "decoder"] < 3 and 1 / 3 < grew[m, "iwae", "encoder"] < 1
            for m in both
        ),
    )
    page.says(
        "With the same 64 draws the ELBO's encoder gradient is about $\\sqrt{64} = 8$ times as clear as with one.",
        *(6 < grew[m, "elbo", "encoder"] < 11 for m in both),
    )
    shown = ("elbo", "iwae", "iwae, dreg", "miwae8", "ciwae")
    last = {
        b: {n: snr("affine", n, b)[64] for n in shown}
        for b in ("encoder z", "encoder u", "decoder")
    }
    page.says(
        "In every panel the ELBO's curve rises most, and the reparameterized IWAE's lies lowest or nearly so at the right.",
        *(max(at_64, key=at_64.get) == "elbo" for at_64 in last.values()),
        *(at_64["iwae"] < 1.05 * min(at_64.values()) for at_64 in last.values()),
    )
    twice = {
        (m, b): snr(m, "iwae", b)[1] / snr(m, "elbo", b)[1]
        for m in both
        for b in ("encoder", "encoder z", "encoder u", "decoder")
        if (m, b) != ("plain", "encoder u")
    }
    page.says(
        "For the plain model the two agree within three per cent. For the affine model they differ by more than a factor of two in $u$.",
        *(abs(x - 1) < 0.035 for (m, _), x in twice.items() if m == "plain"),
        2 < twice["affine", "encoder u"] < 2.5,
    )
    slopes = {
        name: page.printed(rf"(?m)^{name}, IWAE +# \+- # +# \+- #")
        for name in ("untrained", "trained")
    }
    short = [(0.5 - abs(slopes["untrained"][i])) / slopes["untrained"][i + 1] for i in (0, 2)]
    page.says(
        "They come much closer than after training, but stay several standard errors short of the theory:",
        min(short) > 4,
        *(abs(slopes["untrained"][i]) > 3 * abs(slopes["trained"][i]) for i in (0, 2)),
    )
    page.says(
        "The slopes of an untrained VAE come much closer to these rates than those of a trained one, but still fall short.",
        min(short) > 4,
    )
    active = {
        m: sum(v > ACTIVE for v in results.measured("units", f"{m}-iwae5")["parts"][0]["variance"])
        for m in both
    }
    page.says(
        "The digits' models have sixty latents, about a dozen of them active",
        all(abs(n - 12) < 2 for n in active.values()),
    )
    digit = [page.printed(rf"(?m)^{m} +IWAE  +# \+- # +# \+- #$")[::2] for m in both]
    ten, forty = (page.printed(rf"(?m)^{dim} latents +# \+- # +# \+- #$")[::2] for dim in (10, 40))
    page.says(
        "Their encoders' slopes, ${:.2f}$ and ${:.2f}$, are those of forty latents or flatter; "
        "their decoders' slopes, $+{:.2f}$ and $+{:.2f}$, lie between ten and forty.".format(
            *(digit[m][i] for i in (0, 1) for m in (0, 1))
        ),
        all(encoder > forty[1] - 0.01 for encoder, _ in digit),
        all(forty[0] < decoder < ten[0] for _, decoder in digit),
    )
    page.leaves("A dozen active latents of a trained model behave like more than ten of the toy's")
    page.says(
        "the encoder's slope is ${:.2f}$ and the decoder's $+{:.2f}$, where theory has $-0.5$ and $+0.5$, and after training they are ${:.2f}$ and $+{:.2f}$.".format(
            *(slopes[name][i] for name in ("untrained", "trained") for i in (0, 2))
        )
    )
    page.leaves(
        "These bounds average several groups, or mix in the ELBO, which is an average over draws"
    )
    page.leaves("that makes the decoder's gradient less noisy too.")
    page.says(
        "and DReG gives it one, more than thirty times as clear at 64 draws.",
        start["iwae, dreg", "encoder z"][64] > 30 * start["iwae", "encoder z"][64],
    )
    counts = [page.printed(rf"(?m)^{name} +# +# +#")[1] for name in ("untrained", "trained")]
    page.says(
        "of 64 draws {:.0f} count before training and {:.0f} after it, in the typical image.".format(
            *counts
        )
    )
    page.leaves(
        "Each number of the table is read at 64 draws off a straight line",
        "with one draw the IWAE and the ELBO are one estimator, measured twice.",
        "at the start of training, many draws leave the encoder without a direction",
    )
    table = {
        (m, b): page.printed(rf"{m} +{b} +# \+- # +# \+- # +# \+- # +# \+- # +# \+- #")
        for m, b in itertools.product(both, ("encoder z", "encoder u", "decoder"))
        if (m, b) != ("plain", "encoder u")
    }
    page.says(
        "At 64 draws each of them shows $z$ a clearer direction than the reparameterized IWAE does, by many standard errors. DReG's gain in $u$ is less than its error.",
        *(
            table[m, "encoder z"][i] - 1 > 4 * table[m, "encoder z"][i + 1]
            for m in both
            for i in range(0, 10, 2)
        ),
        table["affine", "encoder u"][0] - 1 < table["affine", "encoder u"][1],
    )
    in_z = [dreg_over_iwae(m, "encoder z") for m in both]
    page.says(
        "In $z$, DReG is ahead at every number of draws, by a factor of {:.1f} on average for the plain model and of {:.1f} for the affine one, ".format(
            *(x[1] for x in in_z)
        )
        + "with errors of at most a sixth of that gain.",
        *(min(factors) > 1 and error < (gain - 1) / 6 for factors, gain, error in in_z),
    )
    factors, gain, error = dreg_over_iwae("affine", "encoder u")
    page.says(
        f"the factor lies between {min(factors):.2f} and {max(factors):.2f}, its mean is {gain:.2f}, and its error, {error:.2f}, is larger than the distance of that mean from 1.",
        error > abs(gain - 1),
    )
    plain, affine = (dreg_over_iwae(m, "decoder")[0] for m in both)
    page.says(
        f"In the plain model they are 1 to within two per cent, in the affine one they lie anywhere between {min(affine):.1f} and {max(affine):.1f}: presumably a few draws of a pose",
        max(abs(factor - 1) for factor in plain) < 0.025,
    )
    others = [
        snr("affine", name, "encoder u")[k] / snr("affine", "iwae", "encoder u")[k]
        for name in ("miwae8", "miwae8, dreg", "ciwae", "elbo, stl")
        for k in (8, 16, 32, 64)
    ]
    page.says(
        "The other bounds show their gain in every row of the first table. That table has one fit for each; "
        f"the single factors in $u$, at 8, 16, 32 and 64 draws, lie between {min(others):.2f} and {max(others):.2f}.",
        all(row[i] - 1 > row[i + 1] for row in table.values() for i in range(2, 10, 2)),
    )
    ways = (
        "iwae16-dreg",
        "miwae16-reparameterized",
        "ciwae16-reparameterized",
        "piwae16-reparameterized",
        "multi16-stl",
    )
    runs = {(m, way): results.validated(f"{m}-{way}") for m in ("plain", "affine") for way in ways}
    (seeds,) = {len(run.nll) for run in runs.values()}
    page.says(
        f"in {word(1 + len(ways))} ways that all spend {RUNS['plain-iwae16-dreg'].k} draws on each image, with {word(seeds)} seeds each.",
        all(RUNS[f"{m}-{way}"].k == 16 for m, way in runs),
    )
    page.leaves(
        "The second is the NLL minus that of the reparameterized IWAE on the same images; negative is better."
    )
    page.says(
        f"With {word(seeds)} seeds the error is itself uncertain, so a gap of little more than two is a hint and no more."
    )
    page.leaves(
        "with the same 16 draws (dotted line); left is better. Bars are two standard errors",
        "NLL on held-out images, minus that of the",
    )
    gap = {key: run.gap for key, run in runs.items()}
    dreg = [gap[m, "iwae16-dreg"][0] for m in ("plain", "affine")]
    page.says(
        "so its gap is what the noise costs: half a nat without a warp. With one the number is the same, but at little more than two standard errors it is a hint.",
        2 < -gap["affine", "iwae16-dreg"][0] / gap["affine", "iwae16-dreg"][1] < 3,
        *(-0.6 < x < -0.4 for x in dreg),
    )
    page.says(
        "- On digits, in short runs, the noise of the reparameterized IWAE costs the plain model half a nat, and perhaps the affine one as much.",
        *(-0.6 < x < -0.4 for x in dreg),
    )
    quiet = ("iwae16-dreg", "miwae16-reparameterized", "piwae16-reparameterized")
    page.says(
        "DReG, MIWAE and PIWAE win it back; the ELBO, clearest of all, ends last.",
        *(gap[m, way][0] < -2 * gap[m, way][1] for m in ("plain", "affine") for way in quiet),
        *(gap[m, "multi16-stl"][0] > 2 * gap[m, "multi16-stl"][1] for m in ("plain", "affine")),
    )
    page.says(
        "PIWAE for the encoder alone, and gain as much or more.",
        *(
            gap[m, way][0] < gap[m, "iwae16-dreg"][0] + 0.05
            for m in ("plain", "affine")
            for way in quiet[1:]
        ),
    )
    ciwae = "ciwae16-reparameterized"
    page.says(
        "*CIWAE*, half of which is the ELBO, gains less, and with a warp nothing.",
        all(gap["plain", way][0] < gap["plain", ciwae][0] < 0 for way in quiet),
        abs(gap["affine", ciwae][0]) < gap["affine", ciwae][1],
        RUNS[f"plain-{ciwae}"].objective == "ciwae-0.5",
    )
    page.says(
        "It ends last: here tightness weighs more, and most where there is a pose",
        gap["affine", "multi16-stl"][0] > gap["plain", "multi16-stl"][0] > 0,
    )
    quoted = ", ".join(f"{nll} for {name}" for name, nll in [*RAINFORTH.items()][:-1])
    page.says(
        f"Trained to convergence with a budget of 64 draws, Rainforth et al. 2018 report an NLL of {quoted} and {RAINFORTH['the VAE']} for the VAE"
    )
    page.says(
        "the encoder's clarity is worth a little, the bound's tightness more.",
        RAINFORTH["PIWAE(8, 8)"] < RAINFORTH["IWAE"] < RAINFORTH["MIWAE(8, 8)"],
    )
    without_a_path(page)


def without_a_path(page: Page) -> None:
    """The answer to exercise 5 of chapter 8."""
    score = {k: page.printed(rf"K = +{k}: signal to noise # \+- #") for k in (2, 8, 32)}
    path = {
        k: page.printed(rf"K = +{k}, reparameterized: signal to noise # \+- #") for k in (2, 8, 32)
    }
    page.says(
        f"Above it: {score[8][0]} against {path[8][0]}. It is above at 32 draws too, and at 2 draws the two agree within their errors.",
        *(score[k][0] - path[k][0] > 2 * math.hypot(score[k][1], path[k][1]) for k in (8, 32)),
        abs(score[2][0] - path[2][0]) < 2 * math.hypot(score[2][1], path[2][1]),
    )
    epsilon = torch.linspace(-12, 12, 24_001, dtype=torch.float64)
    sigma = math.sqrt(2 / 3)
    z = 1.5 + sigma * epsilon
    density = torch.distributions.Normal(0.0, 1.0).log_prob(epsilon).exp()
    q, posterior = (
        torch.distributions.Normal(mean, sd) for mean, sd in ((1.5, sigma), (1.0, math.sqrt(0.5)))
    )
    r, g = (posterior.log_prob(z) - q.log_prob(z)).exp(), 2 - 2 * z

    def expect(f: torch.Tensor) -> float:
        return torch.trapezoid(f * density, epsilon).item()

    noise = math.sqrt(expect(r**2 * g**2))
    signal = abs(expect(r**2 * g))
    page.says(
        f"each with a standard deviation of $1/\\sigma = {1 / sigma:.2f}$. "
        f"The reparameterized gradient has $\\sqrt{{\\mathbb E\\, r^2 g^2}} = {noise:.2f}$ in its place.",
        *(
            abs(score[k][0] - signal * sigma / math.sqrt(k)) < 2 * score[k][1]
            and abs(path[k][0] - signal / noise / math.sqrt(k)) < 2 * path[k][1]
            for k in (8, 32)
        ),
    )


def chapter_9(page: Page) -> None:
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
    page.says(
        "with a warp the images with few effective draws are further off; for the plain model the difference could be chance. A high one is no proof. "
        "The better half of the warped models' images is off by more than a nat",
        *(low > high for low, high in halves.values()),
        *(halves[m][1] > 1 for m in ("affine", "tps")),
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
        *(
            (curves["plain"] - curves[m]).mean(1).diff()[ks.index(100) :].min() > 0
            for m in ("affine", "tps")
        ),
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
    page.says(
        "Dots at the left, with few effective draws, lie furthest above zero, some by ten nats and more; towards the right they come closer to it, and most with a warp stay above the gray band.",
        max(values.max() for values in off.values()) > 10,
        *((off[m] > 0.1).double().mean() > 0.8 for m in ("affine", "tps")),
    )
    noise = {m: (c["is_se"] ** 2 + c["ais_se"] ** 2).sqrt() for m, c in tested.items()}
    page.says(
        "Each time the two agree within two standard errors, since there a few heavy draws carry the estimate of importance sampling; over all 100 images these cases come to less than a tenth of a nat.",
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
        "By importance sampling neither warp is ahead of the plain model by more than two standard errors, by AIS both are.",
        *(nats < 2 * error for nats, error in by_is.values()),
        *(nats > 2 * error for nats, error in by_ais.values()),
    )
    page.says(
        "it hides most of what the warp gains.", *(by_is[m][0] < by_ais[m][0] / 2 for m in by_ais)
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
        "{:.1f} $\\pm$ {:.1f} nats, and of the affine map by {:.1f} $\\pm$ {:.1f}, which is less than two standard errors.".format(
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
        "importance sampling serves the warped models *worse* than on digits, and the worst image is off by many nats.",
        *(wrong[m].mean() > off[m].mean() for m in wrong),
        *(wrong[m].max() > 100 for m in wrong),
    )
    page.says(
        "Their gap is what AIS may be wrong by on such images; it is smaller than what importance sampling is wrong by.",
        *(
            (c["lower_nll"] - c["upper_nll"]).mean() < (c["is_nll"] - c["lower_nll"]).mean()
            for c in own.values()
        ),
    )
    page.says(
        f"on {len(own['plain']['is_nll'])} images that each of them has made itself",
        *(len(c["is_nll"]) == len(own["plain"]["is_nll"]) for c in own.values()),
    )
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
        "On the model's own images $q$ is further off where the pose lies beyond.",
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
        f"- AIS on {len(off['plain'])} test images shows by how much NLL(5,000) of the book's models is too high: "
        "by at least about {:.1f} nats without a warp, and by {:.1f} and {:.1f} with one.".format(
            *(off[m].mean() for m in ("plain", "affine", "tps"))
        ),
        min(off["affine"].mean(), off["tps"].mean()) > off["plain"].mean(),
    )
    page.leaves("5,000 draws are off by about 0.1 nat")
    page.says(
        "All this is one training run of each model",
        all(record_of(f"{m}-iwae5").seed == 0 for m in DECODERS),
    )
    too_low = page.printed(r"move first # \+- #")[::2]
    page.says("Too **low**: the model looks better than it is.", max(too_low) < 0)


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


CLAIMS = {"08_gradients": chapter_8, "09_nll": chapter_9, "10_pitfalls": chapter_10}
