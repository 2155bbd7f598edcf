"""tvae_core: the small module behind the book *What and Where*.

A transformer VAE is a VAE with a different decoder; a bound is a pure function of log-weights; an
estimator computes the gradient of a bound. The core, from the bottom up:

checks runtime                              arguments; randomness, devices, files
data, networks, warps, bounds               the pieces
posteriors, particles                       what an encoder returns, and draws from it
models, estimators, evaluation, training    built from these pieces
ais, diagnostics, gradients                 how far a number, or a gradient, can be trusted
moved, poses, scores                        where and what: known poses, inferred poses, scores
plots                                       figures

Five wings use the core, which never imports them:

experiments    everything behind the book's numbers: configs, runs, records, measurements
explorer       the live figures
questions      the questions of each chapter, and who grades the answers
own            your own images: from a folder to aligned pictures and a table of poses
shipped        trained weights and their measurements
"""

import importlib
from typing import Any

from tvae_core.checks import hold

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`tvae_core.load_pretrained`, imported on first use: the core must not need the wings."""
    if name == "load_pretrained":
        from tvae_core.experiments.results import load_pretrained

        return load_pretrained
    raise AttributeError(f"module 'tvae_core' has no attribute {name!r}")


# Whoever imports a module of the core imports this file before it, and gets it with its checks.
# Only plots adds its checks itself, so that nothing else waits for matplotlib.
for _room in (
    *("ais", "bounds", "data", "diagnostics", "estimators", "evaluation", "gradients"),
    *("models", "moved", "poses", "runtime", "scores", "training", "warps"),
):
    hold(importlib.import_module(f"tvae_core.{_room}"))
