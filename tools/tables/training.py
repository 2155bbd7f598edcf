"""Tables about training runs: the study's recipe, the better one, and all runs."""

import inspect
import itertools
import json
import math
import re
import statistics
from collections.abc import Callable, Iterator, Sequence

from torch import Tensor

from tvae_core import models
from tvae_core.evaluation import mean_se
from tvae_core.experiments import PROFILES
from tvae_core.experiments.configs import DECODERS, ENCODERS, RUNS, RunName, names_of
from tvae_core.experiments.measure import columns
from tvae_core.experiments.records import RunRecord
from tvae_core.experiments.results import MEASURED
from tvae_core.experiments.study import PRINTED
from tvae_core.runtime import NAMES

from .base import (
    UNKNOWN,
    Table,
    all_records,
    difference,
    mean_sd,
    mean_sd_over_seeds,
    paired_gap,
    plus_minus,
    printed_nll,
    seeds_of,
    whole,
)

WORDS = NAMES["decoders"]
OBJECTIVES = NAMES["objectives"]
# "vae" is the one objective that the study trains on gray pixels.
ON_BINARY_PIXELS = {name: words for name, words in OBJECTIVES.items() if name != "vae"}
BETTER = ("modern", "long")
PAIRS = (("affine", "plain"), ("tps", "plain"), ("tps", "affine"))


def run_name(model: str, objective: str, recipe: str = "") -> str:
    """The run that trains a model on an objective with the study's recipe, or one of BETTER."""
    if not recipe:
        return str(RunName(model, objective))
    # The better recipes train on binary pixels only, so their names do not mention it.
    return str(RunName(model, objective.removesuffix("-binarized"), recipe))


def gray_table() -> Table:
    """The study's table on gray pixels beside our numbers."""
    rows = [["decoder", "recon, study", "recon, ours", "NLL, study", "NLL, ours"]]
    for model, printed in PRINTED.items():
        run = run_name(model, "vae")
        recon, nll = mean_sd_over_seeds(run, "recon"), mean_sd_over_seeds(run)
        rows.append([WORDS[model], f"{printed.recon:.2f}", recon, printed_nll(run), nll])
    return Table(
        "Reconstruction loss and NLL on gray pixels, one draw.",
        rows,
        names_of("vae"),
    )


def five_draws_table() -> Table:
    """The study's table on five draws beside our numbers."""
    rows = [["decoder", "IWAE, study", "IWAE, ours", "multi-sample, study", "multi-sample, ours"]]
    for model in PRINTED:
        rows.append([WORDS[model]])
        for name in names_of("iwae5", "multi5", decoders=[model]):
            rows[-1] += [printed_nll(name), mean_sd_over_seeds(name)]
    return Table(
        "NLL on binary pixels, five draws.",
        rows,
        names_of("iwae5", "multi5"),
    )


def study_gaps_table() -> Table:
    """What a warp gains on the study's recipe."""
    return _gaps_table(
        "What a warp gains on the study's recipe, in NLL on the same images.",
        {words: [run_name(m, o) for m in DECODERS] for o, words in OBJECTIVES.items()},
    )


def better_gaps_table() -> Table:
    """What a warp gains on the better recipe."""
    return _gaps_table(
        "What a warp gains on the modern recipe, in NLL on the same images.",
        {
            f"{words}, {_budget(recipe)}": [run_name(m, o, recipe) for m in DECODERS]
            for recipe in BETTER
            for o, words in ON_BINARY_PIXELS.items()
        },
    )


def _gaps_table(caption: str, trained: dict[str, Sequence[str]]) -> Table:
    """Paired differences of NLL; `trained` lists the runs of a row in the order of DECODERS."""
    rows = [["trained with", *(f"{WORDS[a]} minus {WORDS[b]}" for a, b in PAIRS)]]
    runs: list[str] = []
    for words, names in trained.items():
        run = dict(zip(DECODERS, names, strict=True))
        cells = [difference(run[a], run[b]) for a, b in PAIRS]
        if set(cells) != {UNKNOWN}:
            rows.append([words, *cells])
            runs += names
    return Table(
        f"{caption} ± is the standard error over seeds and images.", rows, runs, over="{}."
    )


def _budget(recipe: str) -> str:
    """How long the runs of a better recipe train."""
    config = RUNS[run_name("plain", "iwae5", recipe)]
    return f"{config.epochs(PROFILES['paper'].epochs)} epochs"


_WARPED = inspect.signature(models.WarpedDecoder).parameters
# Options of a run: what the table calls them, and the study's value, which a config leaves out.
OPTIONS = {
    "batch_size": ("images in a batch", None),
    "optimizer": ("optimizer", None),
    "peak": ("highest learning rate", 1),
    "warm_up": ("epochs of warm-up", 0),
    "start": ("first bias of the pixels", "near 0"),
    "estimator": ("gradient", "reparameterized"),
    "resample": ("what is warped", _WARPED["resample"].default),
    "padding": ("outside the frame", _WARPED["padding"].default),
    "pose_std": ("deviation of the first W", _WARPED["pose_std"].default),
}
SAID = {
    "adadelta": "AdaDelta, falling rate",
    "adam-one-cycle": "Adam, one cycle",
    "mean": "the mean image's",
    "dreg": "DReG",
    "probs": "probabilities",
    "zeros": "paper",
}


def settings_table() -> Table:
    """The study's recipe and the modern one, as they train the affine IWAE."""
    recipes = [RUNS[run_name("affine", "iwae5", recipe)] for recipe in ("", "modern")]
    rows = [["choice", "study", "modern"]]
    for option, (words, default) in OPTIONS.items():
        given = (getattr(config, option) for config in recipes)
        values = (default if value is None else value for value in given)
        rows.append([words, *(SAID.get(value, str(value)) for value in values)])
    return Table(
        "The two recipes as run here, on binary pixels that are redrawn each time.", rows, []
    )


def recipes_table() -> Table:
    """NLL of the better recipe, beside the study's recipe and the study's own numbers."""
    rows = [["trained with", "decoder", "study", "its recipe, ours"]]
    rows[0] += [f"modern, {_budget(recipe)}" for recipe in BETTER]
    runs = []
    for objective, words in ON_BINARY_PIXELS.items():
        for model in DECODERS:
            names = [run_name(model, objective, recipe) for recipe in ("", *BETTER)]
            ours = map(mean_sd_over_seeds, names)
            rows.append([words, WORDS[model], printed_nll(names[0]), *ours])
            runs += names
    return Table("NLL on binary pixels: the study's recipe, and the modern one.", rows, runs)


def too_high(name: str) -> Tensor | None:
    """Importance sampling's NLL of each image less AIS's; None if AIS has not measured the run."""
    path = MEASURED / f"ais-{name}.json"
    if not path.exists():
        return None
    by = columns(json.loads(path.read_bytes()))
    return by["is_nll"] - by["ais_nll"]


def annealed_table() -> Table:
    """The gaps between decoders, with the NLL of many images corrected by AIS on a few.

    Importance sampling runs on all test images, so its error over images is small. AIS is too slow
    for that, but how far it lowers the estimate varies little between images, so a few suffice.
    """
    rows = [["run", "NLL", "too high by", "corrected", "corrected, minus plain"]]
    runs, images = [], set()
    for objective, recipe in itertools.product(("iwae5", "multi5"), ("", *BETTER)):
        plain = None
        for model in (*DECODERS, *ENCODERS):
            name = run_name(model, objective, recipe)
            if name not in RUNS:
                continue
            excess, seeds = too_high(name), seeds_of(name)
            if excess is None or seeds is None or (model != "plain" and plain is None):
                continue
            runs.append(name)
            images.add(len(excess))
            corrected = statistics.mean(seeds.of("nll")) - excess.mean()
            row = [f"`{name}`", mean_sd_over_seeds(name), plus_minus(mean_se(excess))]
            row.append(f"{corrected:.2f}")
            if model == "plain":
                plain = name, excess
                row.append("")
            elif plain and (sampled := paired_gap(name, plain[0])):
                more, se_more = mean_se(excess - plain[1])
                row.append(f"{sampled[0] - more:+.2f} ± {math.hypot(sampled[1], se_more):.2f}")
            rows.append(row)
    return Table(
        "What a warp gains in training with k = 5. The NLL by 5,000 importance samples is an "
        "upper estimate; AIS measures how much too high it is, on "
        f"{' or '.join(map(str, sorted(images)))} images, for seed 0. ± is the standard error over "
        "seeds and images, and beside the NLL the standard deviation over seeds.",
        rows,
        runs,
        over="{}.",
    )


def looks_table() -> Table:
    """Other encoders for the same decoders, beside those of the study."""
    rows = [["run", "seeds", "NLL"]]
    rows[0] += ["minus plain", "minus the same decoder, one look", "too high by"]
    runs: list[str] = []
    for objective, recipe, model in _compared():
        name = run_name(model, objective, recipe)
        seeds = seeds_of(name)
        if not seeds:
            continue
        runs.append(name)
        once = model if model in DECODERS else ENCODERS[model][0]
        others = [run_name(other, objective, recipe) for other in ("plain", once)]
        gaps = ["" if other == name else difference(name, other) for other in others]
        if once == "plain":
            gaps[1] = ""
        excess = too_high(name)
        high = "" if excess is None else plus_minus(mean_se(excess))
        count = str(len(seeds.records))
        rows.append([f"`{name}`", count, mean_sd_over_seeds(name), *gaps, high])
    return Table(
        "Encoders that look again, on the modern recipe: the NLL by 5,000 importance samples; the "
        "NLL minus that of the plain model, and minus that of the same decoder with one look, with "
        "the same objective and on the same images (± is the standard error over seeds and images, "
        "for a single run over images alone); and by how much the NLL is too high, according to "
        "AIS, on 100 images for seed 0.",
        rows,
        runs,
        over="± beside the NLL is the standard deviation over seeds.",
    )


def _compared() -> Iterator[tuple[str, str, str]]:
    """The objective, recipe and model of each row, where some model looks again."""
    pairs = [("iwae5", recipe) for recipe in BETTER], itertools.product(("vae", "multi5"), BETTER)
    for objective, recipe in itertools.chain(*pairs):
        names = {model: run_name(model, objective, recipe) for model in ENCODERS}
        again = [model for model, name in names.items() if name in RUNS and seeds_of(name)]
        if again:
            yield from ((objective, recipe, model) for model in (*DECODERS, *again))


def models_table() -> Table:
    """The sizes of the three networks."""
    rows = [["decoder", "latents z", "latents u", "parameters"]]
    for name in DECODERS:
        model = models.build(name)
        parameters = sum(p.numel() for p in model.parameters())
        rows.append([WORDS[name], str(model.dim_z), str(model.dim_u), f"{parameters:,}"])
    return Table("The three models, encoder and decoder together.", rows, [])


def draws_table() -> Table:
    """The plain model on binary pixels with 1, 5 and 50 draws."""
    rows = [["draws k", "IWAE", "multi-sample VAE", "epochs"]]
    runs = []
    for k in (1, 5, 50):
        # With one draw the two objectives are the same, and one run stands for both.
        names = [f"plain-{o}{k}" for o in (("multi", "multi") if k == 1 else ("iwae", "multi"))]
        seeds = seeds_of(names[0])
        epochs = str(seeds.records[0].config["epochs"]) if seeds else UNKNOWN
        rows.append([str(k), *(mean_sd_over_seeds(name) for name in names), epochs])
        runs += dict.fromkeys(names)
    return Table("NLL of the plain VAE against the number of draws in training.", rows, runs)


def whole_table() -> Table:
    """The runs that were measured on all test images."""
    rows = [["run", "seeds", "recon", "KL(z)", "KL(u)", "NLL"]]
    rows[0] += ["s.e. over images", "Monte-Carlo s.e.", "median ESS"]
    measured = {name: seeds for name in RUNS if (seeds := whole(name))}
    for name, seeds in measured.items():
        row = [mean_sd(seeds.of(field)) for field in ("recon", "kl_z", "kl_u", "nll")]
        first = seeds.records[0]
        row += [f"{first.nll.se:.2f}", f"{first.nll_mc_se:.3f}"]
        rows.append([f"`{name}`", str(len(seeds.records)), *row, f"{first.ess_median:.0f}"])
    caption = (
        "On all 10,000 test images: mean over seeds ± their standard deviation. The last three "
        "columns are those of the NLL of one seed."
    )
    return Table(caption, rows, list(measured), over="")


def runs_table() -> Table:
    """Every run: losses, their errors, how long it trained, and on which machine."""
    rows = [["run", "seeds", "recon", "NLL", "s.e. over images", "Monte-Carlo s.e."]]
    rows[0] += ["epochs", "minutes", "machine"]
    runs = [name for name in RUNS if seeds_of(name)]
    for name in runs:
        seeds = seeds_of(name)
        assert seeds is not None
        first = seeds.records[0]
        alike = [r.seconds["train"] for r in seeds.records if r.machine == first.machine]
        minutes = statistics.median(alike) / 60
        row = [str(len(seeds.records)), mean_sd_over_seeds(name, "recon"), mean_sd_over_seeds(name)]
        row += [f"{first.nll.se:.2f}", f"{first.nll_mc_se:.3f}"]
        row += [str(first.config["epochs"]), f"{minutes:.0f}", str(first.machine)]
        rows.append([f"`{name}`", *row])
    return Table(
        "Every run. Both standard errors and the machine are those of its first seed; the minutes "
        "are the median over the seeds that were trained on a machine of this kind; for encoders "
        "that look again they are too high, because the machine had other work as well.",
        rows,
        runs,
    )


def protocol_table() -> Table:
    """What all records share. Where they differ, every value is listed."""
    runs = [name for name in RUNS if seeds_of(name)]
    read = [record for name in runs for record in all_records(name)]

    def values(value: Callable[[RunRecord], object]) -> str:
        found = {str(value(record)) for record in read}
        # Numbers within a text by their size: 9 before 10, 2.9 before 2.13.
        parts = {
            text: [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", text)] for text in found
        }
        return ", ".join(sorted(found, key=parts.__getitem__))

    rows = [
        ["what", "value"],
        ["training images", values(lambda r: f"{r.data['train']['n']:,}")],
        ["test images", values(lambda r: f"{r.data['test']['n']:,}")],
        ["importance samples for each image", values(lambda r: f"{r.nll_ks[-1]:,}")],
        ["seeds", values(lambda r: r.seed)],
        ["PyTorch", values(lambda r: r.versions["torch"])],
        ["Python", values(lambda r: r.versions["python"])],
    ]
    return Table("What the runs share.", rows, runs, over="{}.")
