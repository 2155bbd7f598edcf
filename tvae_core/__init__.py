"""tvae_core: the small module behind the book *What and Where*.

A transformer VAE is a VAE with another decoder; a bound is a pure function of log-weights; an
estimator is a way to get a bound's gradient. Each lives in one module:

data, networks, warps, particles, bounds    the pieces
models, estimators, training, evaluation    what is built from them
records, experiments                        runs, their records and their profiles
plots, explorer                             figures and live widgets
"""

__version__ = "0.1.0"
