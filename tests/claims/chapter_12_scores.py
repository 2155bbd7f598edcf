"""What chapter 12 says of scores: where, what, styles and the latents one by one."""

import functools
import statistics

from tvae_core import moved
from tvae_core.experiments import where

from .chapter_12_map import MODEL
from .literature import VITAE
from .page import Page, word
from .sources import off_by

SPLINE = "tps-straight"


def at(pictures: str, model: str, *keys: str) -> float:
    """A number of the records, the mean over seeds."""
    return statistics.fmean(where.scored(pictures, model, *keys))


def probe(pictures: str, model: str, feature: str, what: str) -> float:
    return at(pictures, model, "contents", feature, what)


def poses(page: Page) -> None:
    for words in ("digits", "letters"):
        gray, binary = page.printed(rf"(?m)^{words} +# deg +# deg$")
        page.says(
            "What keeps the moments from following exactly is that black and white pixels were drawn from the gray ones.",
            10 * gray < binary,
        )
    page.says(
        "The numbers are means over three training runs, with the standard error.",
        all(
            len(where.scored(kind, model)) == 3
            for kind in ("digits", "glyphs")
            for model in (where.ABSENT, *where.MODELS)
        ),
    )
    pairs = [("digits", SPLINE, MODEL), ("glyphs", SPLINE, MODEL), ("digits", "tps", "affine")]
    *good, bad = sorted(where.scored("glyphs", "tps", "moves", "degrees", "error"))
    page.says(
        "With the encoder that straightens, the spline scores about as the affine map does, on digits and on letters. "
        f"With one look it does so on digits. On letters one of its three runs follows to {word(bad)} degrees only, the other two to four.",
        *(
            abs(off_by(what, kind, a) - off_by(what, kind, b)) < 1
            for kind, a, b in pairs
            for what in ("moves", "poses")
        ),
        *(
            abs(probe(kind, a, "z", "linear") - probe(kind, b, "z", "linear")) < 0.02
            for kind, a, b in pairs
        ),
        *(round(degrees) == 4 for degrees in good),
    )
    page.says(
        "A bend does not help to follow these moves, as none of them bends.", where.FAMILY.bend == 0
    )
    spline, affine = (probe("digits", m, "u", "linear") for m in (SPLINE, MODEL))
    page.says(
        "Its $u$ holds more of the class than that of the affine map does: "
        f"with the encoder that straightens, a linear probe finds {spline:.2f} there on digits, instead of {affine:.2f}",
        spline > affine,
        probe("glyphs", SPLINE, "u", "linear") > probe("glyphs", MODEL, "u", "linear"),
    )
    page.says(
        "The moments follow a digit to two degrees, and have learned nothing: turn a picture, and its ink turns with it. No model comes close.",
        round(off_by("moves", "digits", where.ABSENT)) == 2,
        all(off_by("moves", "digits", m) > 6 for m in where.MODELS[1:]),
    )
    page.says(
        "The straightening affine model is off by about eleven degrees on digits, between the second and the third answer, and by four on letters, near the second. "
        "There it is a little better than the moments, as all models are whose encoder straightens. So a score of following alone hardly tells a good model from three lines of arithmetic.",
        *(
            0.5
            < off_by("moves", "glyphs", where.ABSENT) - off_by("moves", "glyphs", f"{m}-straight")
            < 1
            for m in where.WARPED
        ),
        round(off_by("moves", "digits", MODEL)) == 11,
        round(off_by("moves", "glyphs", MODEL)) == 4,
    )
    page.says(
        "They are off by sixteen degrees on digits and by nine on letters; the straightening affine model by thirteen and by four.",
        round(off_by("poses", "digits", "none")) == 16,
        round(off_by("poses", "glyphs", "none")) == 9,
        round(off_by("poses", "digits", MODEL)) == 13,
        round(off_by("poses", "glyphs", MODEL)) == 4,
    )
    page.says(
        "(With one look, the affine map and the spline know neither, on digits: there they agree no better than the moments do, rather worse. On letters the affine map with one look is as good as with the encoder that straightens, or better.)",
        all(
            off_by(what, "glyphs", "affine") < off_by(what, "glyphs", MODEL)
            for what in ("moves", "poses")
        ),
        all(off_by("moves", "digits", m) > 15 for m in ("affine", "tps")),
        all(
            off_by("poses", "digits", m) > off_by("poses", "digits", "none") + 1
            for m in ("affine", "tps")
        ),
    )
    off = {
        m: max(at("digits", m, "moves", unit, "error") for unit in ("shift_x", "shift_y"))
        for m in where.MODELS[1:]
    }
    page.says(
        "Models that straighten find shifts to less than half a pixel; the affine model that looks once is off by up to 0.6, along $y$.",
        all(pixels < 0.5 for m, pixels in off.items() if "straight" in m),
        0.55 < off["affine"] < 0.6,
        off["affine"] == at("digits", "affine", "moves", "shift_y", "error"),
    )
    page.says(
        "Correlations near 0.9 look good on a page.",
        0.85 < at("digits", MODEL, "moves", "degrees", "correlation") < 0.95,
    )
    page.says(
        "follows turns better than the affine one: to about six degrees instead of eleven with the encoder that straightens, and to about nine instead of twenty with one look.",
        *(
            round(off_by("moves", "digits", m)) == degrees
            for m, degrees in {
                "similarity-straight": 6,
                MODEL: 11,
                "similarity": 9,
                "affine": 20,
            }.items()
        ),
    )

    page.says(
        "On digits arithmetic on the ink has the first, and no model here comes close. Models that straighten are better than arithmetic at the second, and on letters at both.",
        *(
            off_by(what, kind, f"{m}-straight") < off_by(what, kind, where.ABSENT)
            for what, kind in (("poses", "digits"), ("poses", "glyphs"), ("moves", "glyphs"))
            for m in where.WARPED
        ),
    )


def half(page: Page) -> None:
    """The cells of this section print what they compute, and nbval compares it."""
    (share,) = page.printed("of each degree of a move the model reports #")
    page.says("The model follows, but only about half of the way.", 0.45 < share < 0.55)
    shares = [page.printed(rf"\n {{7}}{i} +# +# +#") for i in (1, 2, 3)]
    page.says(
        "If the encoder were lazy, a second reading would find half of what is left, and a third half of that: 0.5, 0.75, 0.88. "
        "Instead the share stays where it was. (The shift does get better.)",
        all(share < row[0] + 0.01 < 0.55 for row in shares),
        shares[0][2] > shares[1][2] > shares[2][2],
    )
    page.leaves("after one reading half of the turn is found.")
    turned = {
        words: page.printed(rf"the ink of the {words} +turns by #")[0]
        for words in ("reconstruction", "canonical image")
    }
    page.says(
        "The reconstructions turn as the pictures do, and the canonical images stay where they are. "
        "So it is the *map* that turns the ink, all of it, and yet the angle that we read off the map is only half as large.",
        turned["reconstruction"] > 0.9,
        abs(turned["canonical image"]) < 0.05,
    )
    shares = page.printed("  ".join(f"{digit}:#" for digit in range(10)))
    page.says(
        "there the reported share is smallest. It is largest for a 1.",
        len(shares) == 20,
        shares[0] == min(shares[:10]),
        shares[1] == max(shares[:10]),
    )
    (upright,) = page.printed("of each degree, by the vertical axis #")
    page.says(
        "By where the map takes the vertical axis, the model reports more of the turn, and of a 1, which is hardly more than a vertical stroke, nearly all of it.",
        upright > share + 0.1,
        shares[11] > 0.9,
    )
    page.says(
        "That is why it follows digits better, and why `similarity` is the warp to choose if you want an angle. (On letters both follow to four degrees.)",
        off_by("moves", "digits", "similarity-straight") < off_by("moves", "digits", MODEL) - 3,
        off_by("moves", "digits", "similarity") < off_by("moves", "digits", "affine") - 3,
        *(round(off_by("moves", "glyphs", m)) == 4 for m in ("similarity-straight", MODEL)),
    )
    rows = page.printed(
        r"\n +(?=\d +[-\d.]+ \+- [\d.]+ +[-\d.]+ \+- [\d.]+ +[-\d.]+\n)# # \+- # # \+- # #"
    )
    pictures = [rows[i : i + 6] for i in range(0, len(rows), 6)]
    (of_similarity,) = page.printed("of each degree of a move the similarity map reports #")
    page.says(
        "Seven of the eight turns are now right to within three degrees. (Picture 7 is turned the wrong way by both models.) "
        "Of each degree of a move the similarity map reports three quarters, the affine map about half.",
        len(pictures) == 8,
        [abs(found - true) < 3.05 for *_, found, _, true in pictures] == [True] * 7 + [False],
        max(pictures[7][1], pictures[7][3]) * pictures[7][5] < 0,
        abs(of_similarity - 0.75) < 0.02,
        abs(share - 0.5) < 0.05,
    )
    (six, of_affine, _), (two, of_other, typical) = (
        page.printed(rf"{words} +multiply by #; # of the other half lie within. Typically: \+- #")
        for words in ("affine", "similarity")
    )
    page.says(
        "The deviation of the affine model has to be multiplied by six, that of the similarity map by two. Then two thirds of the other half lie within one of it, about as they should. "
        r"So one call to `poses.table` with the similarity map says how far such a digit is turned, and, multiplied by two, typically to $\pm 7$ degrees.",
        (round(six), round(two), typical) == (6, 2, 7),
        all(abs(inside - 0.66) < 0.03 for inside in (of_affine, of_other)),
    )
    sure = page.printed(r"turned by up to # degrees, the model is sure to \+- # degrees")
    page.says("Does the model at least know that it is lost?", abs(sure[1] - sure[3]) < 0.5)
    (within,) = page.printed("finds to within two standard deviations: #")
    page.says(
        "If it were, nineteen in twenty inferred moves would lie within two standard deviations of the true ones, and fewer than four in ten do.",
        0.3 < within < 0.4,
    )
    models = where.MODELS[1:]
    page.says(
        "The error of the models grows by a factor of two to four, and that of the moments does not change.",
        *(2 < off_by("wide", "digits", m) / off_by("moves", "digits", m) < 4 for m in models),
        off_by("wide", "digits", "none") < 1.1 * off_by("moves", "digits", "none"),
    )


def contents(page: Page) -> None:
    def digit(model: str, feature: str, what: str = "linear") -> float:
        return probe("digits", model, feature, what)

    page.says(
        "In raw pixels a moved digit is hard to recognise for a linear probe: a third are right. From the $z$ of the plain model a little more than half are, "
        "and from the $z$ of the straightening affine model nearly nine in ten, although no model has ever seen a label.",
        abs(digit("none", "pixels") - 1 / 3) < 0.03,
        0.5 < digit("plain", "z") < 0.6,
        0.85 < digit(MODEL, "z") < 0.9,
    )
    page.says(
        "By a linear probe, a warp alone brings about two thirds of the gain in what $z$ knows of the class, but it leaves most of the shift and all of the turn in $z$.",
        *(
            0.6 < (once - plain) / (straight - plain) < 0.72
            for plain, once, straight in (
                [probe(kind, model, "z", "linear") for model in ("plain", "affine", MODEL)]
                for kind in ("digits", "glyphs")
            )
        ),
        *(
            probe(kind, "affine", "z", what) > 0.8 * probe(kind, "plain", "z", what)
            for kind in ("digits", "glyphs")
            for what in ("shift", "turn")
        ),
        *(
            probe(kind, "affine", "z", "turn_forest") > probe(kind, "plain", "z", "turn_forest")
            for kind in ("digits", "glyphs")
        ),
    )
    page.says(
        "The clusters show it most: from a quarter for pixels and for the plain model to two thirds and more.",
        abs(digit("none", "pixels", "clusters") - 0.25) < 0.02,
        abs(digit("plain", "z", "clusters") - 0.25) < 0.04,
        digit(MODEL, "z", "clusters") > 2 / 3,
    )
    page.says(
        "A probe on $u$ should get a tenth of the digits right, and gets more than twice that.",
        0.2 < digit(MODEL, "u") < 0.25,
    )
    page.says(
        f"with the similarity map, which cannot make anything narrow, the probe gets {digit('similarity-straight', 'u'):.2f}, still nearly twice as much as by chance ([results page](../book/results)).",
        digit("similarity-straight", "u") < digit(MODEL, "u") - 0.03,
        1.7 < digit("similarity-straight", "u") / 0.1 < 2,
    )
    page.says(
        "a linear probe finds four fifths of the shift there, and nearly half of the turn. With a warp and an encoder that straightens, the shift leaves $z$, on digits completely. "
        "The turn does not quite: a forest still finds a quarter of it in $z$.",
        abs(digit("plain", "z", "shift") - 0.8) < 0.02,
        *(
            probe(kind, m, "z", "shift") < 0.03
            for kind in ("digits", "glyphs")
            for m in where.MODELS
            if m.endswith("-straight")
        ),
        0.4 < digit("plain", "z", "turn") < 0.5,
        digit(MODEL, "z", "shift") < 0.05,
        abs(digit(MODEL, "z", "turn_forest") - 0.25) < 0.03,
    )
    varies = {
        (kind, feature): probe(kind, model, feature, "variance")
        for kind in ("digits", "glyphs")
        for model, feature in (("none", "pixels"), (MODEL, "straightened"))
    }
    smoothed = page.printed(r"as they lie \(# when smoothed too\)")[0]
    page.says(
        "Their variance is {:.0f} instead of {:.0f} on digits, and {:.0f} instead of {:.0f} on letters. ".format(
            *(varies[k, f] for k in ("digits", "glyphs") for f in ("straightened", "pixels"))
        )
        + f"(Interpolation smooths, which explains a part of this: on the bundled digits above, smoothing alone made {smoothed:.0f} out of 72.)",
    )
    page.says(
        "The affine model that looks once has the same decoder, and its $z$ still knows seven tenths of the shift. So does that of the similarity map and of the spline with one look.",
        *(0.65 < digit(m, "z", "shift") < 0.75 for m in ("affine", "similarity", "tps")),
    )


def styles(page: Page) -> None:
    def styled(model: str, feature: str) -> list[float]:
        found = [run[feature] for run in where.scored("glyphs", model, "contents")]
        return [run["style"] for run in found if "style" in run]

    def share(model: str, feature: str) -> float:
        return statistics.fmean(styled(model, feature))

    chance = 1 / len(moved.FACES)
    page.says("it is drawn in one of seven typefaces.", len(moved.FACES) == 7)
    page.says(
        "In $z$: the probe on the straightening model's $z$ gets nearly half of the typefaces right, and the one on its $u$ a fifth, little more than chance. "
        "On the canonical images, which no longer show the pose, it gets about six in ten. The plain model's $z$ has less than a quarter.",
        0.42 < share(MODEL, "z") < 0.5,
        chance + 0.03 < share(MODEL, "u") < 0.21,
        *(len(styled(m, "z")) == 3 for m in (MODEL, "plain")),
        abs(share(MODEL, "canonical") - 0.6) < 0.04,
        chance + 0.05 < share("plain", "z") < 0.25,
    )
    page.says(
        "It is found less well than the letter",
        share(MODEL, "z") < probe("glyphs", MODEL, "z", "linear") - 0.3,
    )


def dci(page: Page) -> None:
    def runs(model: str, *keys: str, kind: str = "digits") -> list[float]:
        seeds = [c for c in where.scored(kind, model, "contents") if "latents" in c]
        return [functools.reduce(lambda part, key: part[key], keys, seed) for seed in seeds]

    found = {m: runs(m, "latents", "disentanglement") for m in ("affine", "plain")}
    spread = {
        what: max(max(v) - min(v) for m in found if (v := runs(m, "z", what)))
        for what in ("linear", "shift")
    }
    page.says(
        "On digits we cannot say. The three runs of the affine model that looks once score {:.2f} to {:.2f}, and those of the plain model, which has no $u$ at all, {:.2f} to {:.2f}. ".format(
            *(end(found[m]) for m in ("affine", "plain") for end in (min, max))
        )
        + "What the first table measures, the class in $z$ and the shift in $z$, hardly changes from run to run.",
        max(spread.values()) < 0.05,
        all(max(v) - min(v) > 0.15 and len(v) == 3 for v in found.values()),
    )
    once, straight, *others = (
        runs(m + look, "latents", "disentanglement", kind="glyphs")
        for m in where.WARPED
        for look in ("", "-straight")
    )
    page.says(
        "with every warp, each run of the model that looks once scores higher than each run of the one that straightens. For the affine map that is {:.2f} and {:.2f} against {:.2f} to {:.2f}. ".format(
            *once, min(straight), max(straight)
        )
        + "Yet it is the model that looks once whose $z$ still knows four fifths of the shift and of the turn.",
        (len(once), len(straight)) == (2, 3),
        min(once) > max(straight) + 0.2,
        *(min(a) > max(b) + 0.1 for a, b in zip(others[::2], others[1::2], strict=True)),
        *(abs(probe("glyphs", "affine", "z", what) - 0.8) < 0.05 for what in ("shift", "turn")),
        *(probe("glyphs", MODEL, "z", what) < 0.2 for what in ("shift", "turn")),
    )
    page.says(
        f"the closest published number is the disentanglement score of {VITAE['D-score']} on the poster of a model that also splits appearance and perspective, VITAE"
    )
    page.leaves(
        "Turn the two axes of a plane of latents by 45 degrees: the same pictures can be drawn, but each number now speaks of two factors, and the score falls.",
        "It has two latents for each, its digits were warped in another way, and its score was computed by another protocol, so it cannot be compared with ours.",
    )
