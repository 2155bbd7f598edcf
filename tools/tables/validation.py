"""Tables about runs that were measured on held-out training images, where recipes are chosen."""

from tvae_core.experiments.configs import RECIPES, RUNS, RunName
from tvae_core.runtime import NAMES

from .base import Table, difference, mean_sd_over_seeds

MODELS = ("plain", "affine")  # the decoders that these runs train
WORDS = {model: NAMES["decoders"][model] for model in MODELS}
# What an ablation undoes in the modern recipe, in the order of the table.
CHOICES = {
    "adadelta": "AdaDelta and its decay, as in the study",
    "constant-rate": "Adam at a constant 0.001",
    "lower-peak": "one cycle with its peak at 0.001",
    "no-warm-up": "no warm-up of the KL",
    "zero-start": "decoder bias not at the mean image",
    "reparameterized": "reparameterized gradient, not DReG",
    "probs": "probabilities warped, not logits",
    "border": "border padding",
    "small-pose": "first W ten times smaller",
    "large-pose": "first W three times larger",
}
# The run that a recipe's other runs are compared with, without its model.
BASES = {"ablation": "iwae5-modern", "gradients": "iwae16-reparameterized"}


def ablation_table() -> Table:
    """What each choice of the modern recipe is worth."""
    rows = [["the modern recipe, but", *WORDS.values()]]
    bases = [str(RunName(model, BASES["ablation"])) for model in MODELS]
    best = [mean_sd_over_seeds(base, profile="validation") for base in bases]
    rows.append(["nothing: its NLL", *best])
    for what, words in CHOICES.items():
        names = [str(RunName(model, "iwae5", what)) for model in MODELS]
        # A plain model has no warp, so some choices exist only for the affine one.
        cells = [
            difference(name, base, profile="validation") if name in RUNS else ""
            for name, base in zip(names, bases, strict=True)
        ]
        rows.append([words, *cells])
    return Table(
        "What each choice is worth: NLL-1,000 on 1,000 held-out training images after 15 epochs, "
        "less that of the modern recipe, ± the standard error over seeds and images (in the first "
        "row, ± the standard deviation over seeds).",
        rows,
        list(RECIPES["ablation"]),
        profile="validation",
        over="{}.",
    )
