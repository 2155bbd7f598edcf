"""What chapter 12 says of results. nbval holds what it prints, so it may be read."""

import inspect
import statistics

import torch
from torch import Tensor

from tvae_core import moved
from tvae_core.experiments import where
from tvae_core.poses import moments

from .chapter_12_map import MODEL, augmented, corners, in_images, the_map
from .chapter_12_scores import contents, dci, half, poses, styles
from .literature import TARGET
from .page import Page, word
from .sources import off_by


def nats(task: str) -> float:
    """The NLL, the mean over pictures and runs."""
    return statistics.fmean(map(statistics.fmean, where.by_seed(task, "nll")))


def settings(page: Page) -> None:
    family, task = where.FAMILY, where.TASKS[where.SHIPPED_MODEL]
    page.says(
        f"Each is turned by up to {family.degrees} degrees either way, shifted by up to {family.shift} pixels along each axis, "
        f"and scaled by a factor between 1/{family.scale} and {family.scale}.",
        task.moves == family,
        where.CANVAS == (32, 32),
    )
    page.says(f"Train the models of this book on {task.n_train:,} such pictures.")
    page.says("measured on 2,000 pictures in five folds", task.n_test == 2_000)
    page.says(f"The records of this chapter took up to {where.ROUNDS} rounds.", where.STEPS == 100)
    page.says(
        "For each pair we train a plain model, an affine one that looks once and one that straightens, "
        f"until the bound on {where.HELD_OUT} more pictures stops rising, or for {where.ROUNDS} rounds. A round is {where.STEPS} steps, or one pass over the images if that is longer. "
        "(With 10,000 images ten of the twenty runs used all 60 rounds, so longer training might bring them further.) "
        f"The NLL is estimated, from 5,000 importance samples, on {where.N_NLL} test pictures in poses from the same range.",
        all(where.TASKS[f"map-{n}-45-plain-0"].n_test == where.N_NLL for n in where.SIZES),
    )
    page.leaves(
        "The last rows are all of MNIST, less the 500.",
        "Such estimates are too high; a section below finds out by how much.",
    )
    page.says(
        "10,000 pictures take a second or two on one core, with an affine map or with a spline. "
        "(Test: `tests/test_poses.py::test_a_table_of_ten_thousand_images_takes_seconds`, which allows four.)"
    )
    page.leaves(
        "the median of 1,000 pictures has a standard error of about one and a half",
        "to what fraction of a degree can a turn be read",
        "Make 2,000 letters with `moved.glyphs`, whose poses you know, binarize them with `data.binarize_fixed`, and fit anything that you like, with a CPU and in half a minute",
        "Its letters come from other seeds than 20, so train on seed 20.",
    )
    (off,) = page.printed(r"correlation [-+.\d]+, error # degrees")
    page.says("No correlation, and a typical error of nearly 40 degrees.", 39 < off < 40)
    minutes = {
        (kind, model, i): seconds / 60
        for kind in ("digits", "glyphs")
        for model in where.MODELS
        for i, seconds in enumerate(where.scored(kind, model, "train_seconds"))
    }
    every = sorted(
        record["train_seconds"] / 60
        for record in where.records().values()
        if "train_seconds" in record
    )
    page.says(
        "That takes about two minutes on one core.",
        1.5 < minutes["digits", "affine", 0] < 2.5,
    )
    page.says(
        "Training one of them takes from under a minute to an hour on one core of a CPU, most less than twenty minutes (exercise 3 says how).",
        0.5 < every[0] < 1,
        55 < every[-1] < 65,
        every[int(0.9 * len(every))] < 20,
    )


def turned(page: Page) -> None:
    with_r, without = "turns-similarity-straight-turns", "turns-similarity-straight"

    def of(task: str, *keys: str) -> float:
        return statistics.fmean(where.by_seed(task, *keys))

    on_the_map = [
        where.records()[f"map-{n}-180-{model}-0"]["moves"]["degrees"]["error"]
        for n in (500, 2_000)
        for model in ("affine", MODEL)
    ]
    page.says(
        "The map's column of 180 degrees hides a failure. Trained on digits turned by up to 180 degrees, not even the model that follows turns best, the similarity map with the straightening encoder, infers a turn (a table below shows it).",
        min(on_the_map) > 80,  # guessing has 90
        min(where.MODELS[1:], key=lambda m: off_by("moves", "digits", m)) == "similarity-straight",
        min(where.by_seed(without, "moves", "degrees", "error")) > 80,
    )
    task = where.TASKS[where.TURNING_MODEL]
    page.says(
        "It has learned from 5,000 digits turned by up to 180 degrees, with a similarity map for $u$",
        (task.n_train, task.moves.degrees) == (5_000, 180),
    )
    shares = [page.printed(rf"share with r = {r} +" + " +".join("#" * 10)) for r in range(4)]
    sure = page.printed("likeliest r, median +" + " +".join("#" * 10))
    page.says(
        "Nine in ten 6s get $r = 2$ and nine in ten 9s $r = 0$, half a turn away: to the model, a 9 lies as an upside-down 6 does. "
        "By these draws it is least sure of 1s, and next of 0s; of most others it is sure. And $r = 0$ does not mean upright.",
        abs(shares[2][6] - 0.9) < 0.03,
        abs(shares[0][9] - 0.9) < 0.03,
        sorted(range(10), key=lambda c: sure[c])[:2] == [1, 0],
        sum(p > 0.99 for p in sure) >= 6,
        max(shares[0]) > 0.9 > 0.1 > min(shares[0]),
    )
    page.says(
        "where that lies half-way between two quarter turns, as for the 3, its digits go to both.",
        shares[0][3] > 0.3,
        shares[3][3] > 0.3,
    )
    page.says(
        r"Without $r$ the straightening model does not follow at all: its error, 87 $\pm$ 3 degrees, is no better than the 90 of guessing. With $r$ its median error is three degrees.",
        round(of(without, "moves", "degrees", "error")) == 87,
        round(of(with_r, "moves", "degrees", "error")) == 3,
    )
    right, quarter, half = (
        page.printed(rf"{words} +# of 1,000 moves")[0]
        for words in ("right", "a quarter turn off", "half a turn off")
    )
    page.says(
        "In training this model has two draws for each position, eight in all, where the others have five. Its NLL is from 5,000 draws for each position, 20,000 in all",
        where.TASKS[with_r + "-0"].nll_samples == 5_000,
        "k=2 if isinstance(model, QuarterTurns) else 5" in inspect.getsource(where.train),
    )
    page.says(
        "It is not always right: of the moves above about nine in ten are within 20 degrees, nearly one in ten is off by about half a turn, and none by a quarter turn. "
        + "So it can tell a digit that lies from one that stands, and not always which way up it stands.",
        (right, half, quarter) == (0.9, 0.1, 0),
    )
    page.says(
        "Without $r$ we have {:.0f} percent, with it {:.0f}.".format(
            *(100 * of(task, "contents", "z", "clusters") for task in (without, with_r))
        )
    )
    page.says(
        f"print that without it ten clusters of $z$ sort only {TARGET['clusters']} percent of turned digits correctly (their table 2)."
    )
    page.says(
        "Classes come out of $z$ far better, and the NLL falls by nearly six nats.",
        of(with_r, "contents", "z", "linear") > of(without, "contents", "z", "linear") + 0.2,
        of(with_r, "contents", "z", "clusters") > of(without, "contents", "z", "clusters") + 0.2,
        5.5 < nats(without) - nats(with_r) < 6,
    )
    page.says(
        "And this does not fix *agreeing*: as each kind of digit has its own upright,",
        of(with_r, "poses", "degrees", "error") > 45,
    )
    page.says(
        "both runs of a model find most turns to a few degrees.",
        len(where.by_seed(with_r)) == 2,
        max(where.by_seed(with_r, "moves", "degrees", "error")) < 4,
    )
    page.says(
        "and so have the models of full turns",
        *(len(where.by_seed(task)) == 2 for task in ("turns-plain", without, with_r)),
    )
    page.says(
        "(The 500 pictures of the NLL are the first of the 2,000, so they show the first of MNIST's test digits. Those of the map are spread over all test digits. Other digits cost other nats, so compare NLLs within a table only.)",
        (task.n_test, where.N_NLL, where.TASKS["map-500-0-plain-0"].n_test) == (2_000, 500, 500),
        "seen[:N_NLL]" in inspect.getsource(where.run),
        "torch.linspace(0, len(images) - 1, n)" in inspect.getsource(where.pictures),
    )
    page.leaves(
        "The scores are those of the sections above, for 2,000 pictures turned by up to 180"
    )


def shifted(page: Page) -> None:
    records = {m: where.records()[f"published-{m}-0"] for m in ("plain", "similarity-straight")}
    plain, straight = records.values()
    z, u = (straight["contents"][name] for name in ("z", "u"))
    nlls = [torch.tensor(record["nll"], dtype=torch.float64) for record in (plain, straight)]
    only_turned = [nats(f"turns-{model}") for model in records]
    task = where.TASKS["published-plain-0"]
    page.says(
        "digits turned by up to 180 degrees and shifted by up to 5 pixels along each axis, on a canvas of 50 by 50 pixels.",
        (task.moves.degrees, task.moves.shift, task.canvas) == (180, 5, (50, 50)),
    )
    page.says(
        "We train the plain model and the similarity map that straightens, without $r$, on 5,000 of them.",
        task.n_train == 5_000,
    )
    page.says(
        "It was ahead by four nats on digits that are only turned.",
        round(only_turned[0] - only_turned[1]) == 4,
    )
    page.says(
        "By far more: by twenty nats. The turn is not found this time either, but the shift is. It leaves $z$",
        round((nlls[0] - nlls[1]).mean().item()) == 20,
        straight["moves"]["degrees"]["error"] > 80,
    )
    page.says(
        f"(a ridge regression finds nothing of it there, and {plain['contents']['z']['shift']:.2f} of it in the plain model's $z$), and $u$ holds it.",
        z["shift"] < 0.01,
        u["shift"] > 0.9,
    )
    page.says(
        f"Ten clusters of $z$ sort {100 * z['clusters']:.0f} percent of these digits correctly, where the paper prints {TARGET['clusters']} for its digits without a discrete turn.",
    )
    page.says("(One run of each model, one set of shifts, 5,000 pictures for training")
    page.leaves("a warp can be worth many nats even if it finds only a part of the pose.")


def modes(page: Page) -> None:
    record = where.records()[where.MODES]
    task = where.TASKS[where.MODES]
    found = {name: torch.tensor(values) for name, values in record["modes"].items()}
    p, degrees = found["log_p"].softmax(0), found["degrees"]
    main = degrees.median(0).values[p.argmax(0), torch.arange(10)]
    off = (degrees - main + 180) % 360 - 180
    near = off.abs() < 90
    share = (p * near.double().mean(0)).sum(0)
    draws = page.printed("by 20 draws from q +" + " +".join("#" * 10))
    assert page.printed("that way round, by AIS +" + " +".join("#" * 10)) == [
        round(value, 2) for value in share.tolist()
    ]
    second = [c for c in range(10) if share[c] < 0.99]
    weight = p / len(degrees)

    def spread(c: int, of: Tensor) -> float:
        """The standard deviation of the turns `of` one digit, around the middle of its mode."""
        w = (weight[:, c] * of[..., c]).flatten()
        turns = (off[..., c].flatten() % 360 - (0 if of is near else 180) + 180) % 360 - 180
        mean = (w * turns).sum() / w.sum()
        assert abs(mean) < (6 if of is near else 30)
        return ((w * (turns - mean).square()).sum() / w.sum()).sqrt().item()

    page.says(
        "for ten bundled digits, one of each class",
        (task.n_test, task.model) == (10, where.TASKS[where.TURNING_MODEL].model),
    )
    page.says(
        f"it took {word(record['seconds'] / 60)} minutes on one core, so it is in a record.",
        record["machine"]["threads"] == 1,
    )
    page.says(
        "Of these ten digits the 1, the 2, the 4 and the 5 can: their posteriors have a second mode, about half a turn away, "
        f"with a probability of {1 - max(share[second]):.2f} to {1 - min(share[second]):.2f}. "
        "No single normal covers two modes. (The length of a bar is the square root of its probability, so that small modes can be seen.) In the other six we found one mode, a few degrees wide.",
        second == [1, 2, 4, 5],
        *(spread(c, near) < 6 for c in range(10)),
        *(spread(c, ~near) < 12 for c in second),
    )
    page.says(
        "The standard error of AIS is typically a few tenths of a nat for each $r$",
        0.2 < found["se"].median() < 0.5,
    )
    page.says(
        "Twenty draws from $q$ for each $r$ put the 2 and the 4 the other way round from AIS, and are sure of it.",
        [c for c in range(10) if draws[c] < 0.5] == [2, 4],
        max(draws[2], draws[4]) < 0.1,
    )


def one_call(page: Page) -> None:
    pattern = r"R\^2 of the true pose: degrees +#, shift_x +#, scale_x +#"
    of_model, of_ink = (page.printed(pattern)[i : i + 3] for i in (0, 3))
    page.says(
        "The model explains about half of the variance of the turns. The axis of the ink, here compared up to a whole turn, explains less than nothing: to call every picture upright would be closer. (It follows well, and agrees badly.) "
        "Shifts to the right are explained to about nine tenths by both. And the scale along the picture's own $x$ axis is explained by neither.",
        abs(of_model[0] - 0.5) < 0.05,
        of_ink[0] < 0,
        all(abs(each[1] - 0.9) < 0.06 for each in (of_model, of_ink)),
        max(of_model[2], of_ink[2]) < 0,
    )
    turn, right, down = page.printed(r"deviations: degrees #, shift_x #, shift_y #")
    page.says(
        "If its $q$ did, 0.95 of the moves would lie within two standard deviations. The shifts come nearer to that than the turn, which is as far off as before.",
        turn < 0.4 < 0.7 < min(right, down) < 0.95,
    )


def exercises(page: Page) -> None:
    upright = moved.glyphs(2_000, moved.Moves(), where.CANVAS, seed=3)
    across = moments(upright)["degrees"].abs() > 45

    def faces(letter: str) -> int:
        """In how many typefaces the ink spreads further across."""
        of = upright.labels == moved.LETTERS.index(letter)
        styles = upright.styles[of].unique()
        assert len(styles) == 7
        return sum(bool(across[of & (upright.styles == s)].all()) for s in styles)

    page.says(
        "The ink of a W or an M spreads further across than up and down in five of the seven typefaces, that of an O in three, so there the axis lies across;",
        [faces(letter) for letter in "ITUDWMO"] == [0, 0, 0, 1, 5, 5, 3],
    )
    page.leaves("in all typefaces except one, a D spreads further up and down than across,")
    follows, agrees = page.printed(r"own +turn in degrees: follows #, agrees #")
    still, askew = page.printed(r"moments +turn in degrees: follows #, agrees #")
    affine = ("affine", MODEL)
    page.says(
        "This one follows worse than the chapter's affine models, and agrees a little worse, although it was told the pose of every letter that it learned from. It agrees better than the moments, and the moments follow better.",
        all(follows > off_by("moves", "glyphs", name) + 1 for name in affine),
        all(0.5 < agrees - off_by("poses", "glyphs", name) < 2 for name in affine),
        follows > still + 1,
        agrees < askew - 1,
    )


def chapter_12(page: Page) -> None:
    for part in (
        settings,
        poses,
        half,
        contents,
        styles,
        dci,
        the_map,
        corners,
        in_images,
        augmented,
        turned,
        shifted,
        modes,
        one_call,
        exercises,
    ):
        part(page)


CLAIMS = {"12_what_and_where": chapter_12}
