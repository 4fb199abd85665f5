# `make demo` and `make test` are all a newcomer needs; `make help` lists the rest.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
SUITE  := workflow/config/demo.yaml

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-full lint lock clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

setup: $(STAMP) ## create .venv with the locked packages

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "daar needs Python 3.11 or newer, $(PYTHON) is $$($(PYTHON) -V 2>&1). Run: make PYTHON=python3.11 $(MAKECMDGOALS)" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(STAMP) ## run the whole DAG on scikit-learn's digits, in minutes on a CPU
	@$(BIN)/snakemake --cores all --configfile $(SUITE)
	@$(BIN)/python -m daar report $(SUITE) --where

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow baselines daar
	$(BIN)/snakemake --lint
	$(BIN)/mypy

test: lint ## what CI runs: linters, types, unit and end-to-end tests
	$(BIN)/pytest

test-full: lint ## the same, with the long forms
	$(BIN)/pytest -m ""

lock: $(STAMP) ## resolve the pins anew: requirements.lock and environment.yml
	$(BIN)/python workflow/scripts/lock.py

clean: ## remove all outputs of runs (keeps results/reference and .venv)
	rm -rf .snakemake results/data results/dense results/demo results/paper
