"""tvae_core: the small module behind the book *What and Where*.

A transformer VAE is a VAE with another decoder; a bound is a pure function of log-weights; an
estimator is a way to get a bound's gradient. Each lives in one module:

data, networks, warps, particles, bounds    the pieces
models, estimators, training, evaluation    what is built from them
diagnostics, ais, gradients                 how far a number, or a gradient, can be trusted
recipes, experiments, reproduce, measure    the book's runs, and how they are made and measured
records, results, provenance                what came out, and of which code
plots, explorer                             figures and live widgets
"""

from tvae_core.results import load_pretrained as load_pretrained

__version__ = "0.1.0"
