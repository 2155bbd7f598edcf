"""What chapter 8 says of results. nbval holds what it prints, so it may be read."""

import itertools
import math
import re
import statistics

import torch

from tvae_core.evaluation import ACTIVE
from tvae_core.experiments import results
from tvae_core.experiments.configs import RUNS

from .literature import RAINFORTH
from .page import Page, word


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
    page.says("while the decoder's rises by half.", round(groups[64][2] / groups[1][2], 1) == 1.5)
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
        0.7 < rise["iwae", "encoder z"] * rise["iwae", "decoder"] < 1.4,
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
    climbs = [
        {n: curve[64] / curve[min(curve)] for n in shown for curve in [snr("affine", n, b)]}
        for b in last
    ]
    page.says(
        "In every panel the ELBO's curve rises most, and the reparameterized IWAE's lies lowest or nearly so at the right.",
        *(max(at_64, key=at_64.get) == "elbo" for at_64 in last.values()),
        *(max(risen, key=risen.get) == "elbo" for risen in climbs),
        *(at_64["iwae"] < 1.05 * min(at_64.values()) for at_64 in last.values()),
    )
    twice = {
        (m, b): snr(m, "iwae", b)[1] / snr(m, "elbo", b)[1]
        for m in both
        for b in ("encoder", "encoder z", "encoder u", "decoder")
        if (m, b) != ("plain", "encoder u")
    }
    page.says(
        "For the plain model the two agree within four per cent. For the affine model they differ by more than a factor of two in $u$.",
        *(abs(x - 1) < 0.04 for (m, _), x in twice.items() if m == "plain"),
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
    (dreg,) = page.printed(r"(?m)^untrained, DReG +# \+- #")[:1]
    page.says(
        f"DReG's ratio should rise as $\\sqrt K$, with a slope of $+0.5$, and even before training it hardly rises, with a slope of $+{dreg:.2f}$.",
        0 < dreg < 0.1,
    )
    page.says(
        "The slopes of an untrained VAE come much closer to these rates than those of a trained one, but still fall short; DReG's ratio hardly rises in either.",
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
        "their decoders' slopes, $+{:.2f}$ and $+{:.2f}$, lie between ten and forty, the second hardly above forty.".format(
            *(digit[m][i] for i in (0, 1) for m in (0, 1))
        ),
        all(encoder > forty[1] - 0.01 for encoder, _ in digit),
        all(forty[0] < decoder < ten[0] for _, decoder in digit),
        digit[1][1] - forty[0] < 0.03 < digit[0][1] - forty[0],
    )
    page.leaves(
        "So by the decoder a dozen active latents of a trained model behave like some number from ten to forty of the toy's, and by the encoder like forty or more"
    )
    page.says(
        "the encoder's slope is ${:.3f}$ and the decoder's $+{:.3f}$, where theory has $-0.5$ and $+0.5$, and after training they are ${:.3f}$ and $+{:.3f}$.".format(
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
        "For each number of the table we fit a straight line, in logarithms, to the measurements from 8 draws on, and read it at 64 draws",
        "with one draw the IWAE and the ELBO are one estimator, measured twice.",
        "at the start of training, many draws leave the encoder without a direction",
    )
    table = {
        (m, b): page.printed(rf"{m} +{b} +# \+- # +# \+- # +# \+- # +# \+- # +# \+- #")
        for m, b in itertools.product(both, ("encoder z", "encoder u", "decoder"))
        if (m, b) != ("plain", "encoder u")
    }
    page.says(
        "At 64 draws each of them shows $z$ a clearer direction than the reparameterized IWAE does, by more than four of these standard errors (each is from four dots, and may be too small). DReG's gain in $u$ is less than its error.",
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
        max(abs(factor - 1) for factor in plain) < 0.02,
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
        "so its gap is what the noise costs: half a nat without a warp. With one it is nearly as much, but at little more than two standard errors it is a hint.",
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
        "so there the clearer encoder of PIWAE gains next to nothing, 0.06 nats, and a looser bound costs up to 1.7.",
        round(RAINFORTH["IWAE"] - RAINFORTH["PIWAE(8, 8)"], 2) == 0.06,
        round(RAINFORTH["the VAE"] - RAINFORTH["IWAE"], 1) == 1.7,
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


CLAIMS = {"08_gradients": chapter_8}
