# `make help` lists the targets. All of them use the environment in .venv, which is made on first
# use and updated whenever requirements.txt or pyproject.toml changes. The tests also run with other
# packages: ENV=colab takes those of requirements-colab.txt, in .venv-colab; ENV=newest likewise.

PYTHON ?= python3
ENV := pinned
SUFFIX := $(if $(filter-out pinned,$(ENV)),-$(ENV))
VENV := .venv$(SUFFIX)
BIN := $(VENV)/bin
READY := $(VENV)/.installed
RENDERED := _build/html/.rendered
SOURCES := _config.yml _toc.yml $(shell find book notebooks results tvae_core -type f -not -path '*/.*' -not -path '*/__pycache__/*')
# What another set of packages may break: not the laws of files, records and tables.
SHORT := $(filter-out %tables.py %table_cells.py %laws.py %mutants.py %house.py %checkout.py %book.py %landing.py %theme.py %drawings.py,$(wildcard tests/test_*.py)) \
    notebooks/01_vae.ipynb notebooks/05_iwae.ipynb
# The notebooks that `make notebooks` executes, e.g. make notebooks NB=notebooks/01_vae.ipynb
NB ?= $(sort $(wildcard notebooks/*.ipynb))

.DEFAULT_GOAL := help
.PHONY: help install book pdf test test-short test-slow test-browser check notebooks reproduce measure bench mutants tables explorer setup-cells questions diagrams linkcheck clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(READY) ## make or update the environment that the other targets use

# The stamp is written last, so an installation that stopped half-way is resumed. An environment
# without a working pip (left unfinished, or moved from another folder) is made again from scratch.
$(READY): $(wildcard requirements*.txt) pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	    { echo "error: Python 3.10 or newer is needed; try: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	    { echo "error: $(PYTHON) lacks the venv module; on Debian or Ubuntu: apt install python3-venv" >&2; exit 1; }
	@$(BIN)/pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install -r requirements$(SUFFIX).txt
	@touch $@

book: $(RENDERED) ## render the book, with warnings as errors
	@echo "The book is ready: open $(CURDIR)/_build/html/index.html"

# --all, because the warnings of a page that is not built again would be lost. The stamp is written
# last, so a book with warnings is rendered again.
$(RENDERED): $(READY) $(SOURCES)
	$(BIN)/jupyter-book build . --all -W --keep-going -q
	@touch $@

pdf: $(RENDERED) ## print the book into one PDF file, with Chromium (minutes)
	$(BIN)/python tools/make_pdf.py

test: $(READY) ## run every notebook, and the tests of tvae_core, offline
	$(BIN)/python -m pytest

test-short: $(READY) ## run the laws of tvae_core, the set-up cell and two chapters (ENV=colab, newest)
	$(BIN)/python -m pytest $(SHORT)

test-slow: $(READY) ## run the tests that take minutes: compiled steps, edited sources, torchrun
	$(BIN)/python -m pytest tests/slow

test-browser: $(RENDERED) ## open every page of the book in Chromium and Firefox, without a network
	$(BIN)/python -m pytest tests/browser

check: $(READY) ## check format, lint, types, workflows, and the cells derived from _config.yml
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m ruff check .
	$(BIN)/python -m mypy
	$(BIN)/python tools/setup_cells.py --check
	$(BIN)/python tools/question_cells.py --check
	$(BIN)/python tools/diagrams.py --check
	$(BIN)/zizmor --offline --quiet .github
	$(BIN)/python -m check_jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/python -m check_jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml

notebooks: $(READY) ## execute notebooks in place (NB= names them; TVAE_PROFILE is paper by default)
	TVAE_PROFILE=$${TVAE_PROFILE:-paper} $(BIN)/python tools/run_notebooks.py $(NB)

reproduce: $(READY) ## train and evaluate the runs of chapters 1 to 11 (hours; ARGS=--help lists options)
	TVAE_PROFILE=paper $(BIN)/python -m tvae_core.reproduce $(ARGS)
	$(BIN)/python tools/collect.py
	$(BIN)/python -m tools.tables

measure: $(READY) ## measure the trained models in more detail (hours; ARGS=--help lists options)
	kinds=$$($(BIN)/python -c 'from tvae_core.experiments.kinds import KINDS; print(*KINDS)') && \
	for kind in $$kinds; do \
	    TVAE_PROFILE=paper $(BIN)/python -m tvae_core.measure $$kind $(ARGS) || exit; done

bench: $(READY) ## time tvae_core against tutorial-style code (half an hour, on an idle machine)
	$(BIN)/python tools/bench.py

mutants: $(READY) ## plant mistakes in copies of the repository; the tests should catch each (half an hour)
	$(BIN)/python tools/mutants.py
	$(BIN)/python -m tools.tables

tables: $(READY) ## write the book's tables from the run records
	$(BIN)/python -m tools.tables

explorer: $(READY) ## write the explorer's scripts, with trained models, to _build/explorer
	$(BIN)/python tools/export_explorer.py _build/explorer

setup-cells: $(READY) ## write the repository's address from _config.yml into notebooks and README
	$(BIN)/python tools/setup_cells.py

questions: $(READY) ## write the questions of tvae_core/questions into the notebooks
	$(BIN)/python tools/question_cells.py

diagrams: $(READY) ## write the chapters' diagrams, and the cells that show them
	$(BIN)/python tools/diagrams.py

linkcheck: $(READY) ## try every link that leads out of the book (needs a network)
	$(BIN)/jupyter-book build . --all --builder linkcheck

clean: ## remove everything that was built, except the environments
	rm -rf _build build *.egg-info .pytest_cache .ruff_cache .mypy_cache
	find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +
