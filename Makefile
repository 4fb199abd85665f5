# `make demo` and `make test` are all a newcomer needs; `make help` lists the rest.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
PIP    := $(BIN)/python -m pip install --disable-pip-version-check
# the same, with a line for each large file in place of three for each package
INSTALL := $(BIN)/python workflow/scripts/install.py
TORCH  := ^(torch|torchvision)==
CUDA   := ^(nvidia-[a-z0-9-]*|cuda-[a-z]*|triton)==

ifdef CPU
# uv itself knows where PyTorch's builds without CUDA are; all else is of the same lock
SIZE := PyTorch without CUDA and all other locked packages, about 0.5 GB to download and 2 GB on disk
INSTALL_LOCKED = $(INSTALL) $$(grep -E '^uv==' requirements.lock) && { \
	  $(BIN)/python -m uv pip install --python $(BIN)/python --no-deps --torch-backend cpu $$(grep -E '$(TORCH)' requirements.lock) \
	  || { echo "PyTorch's builds without CUDA cannot be had from here. Run: make setup" >&2; exit 2; }; } && \
	  grep -vE '$(TORCH)|$(CUDA)' requirements.lock > $(VENV)/cpu.lock && $(INSTALL) -r $(VENV)/cpu.lock
else
SIZE := less than 1 GB to download
ifeq ($(shell uname),Linux)
SIZE := about 3.3 GB to download and 6.5 GB on disk, most of it CUDA's libraries (make setup CPU=1: without them)
endif
INSTALL_LOCKED = $(INSTALL) -r requirements.lock
endif

# A file of tests in one process: its tests share what they have made. Threads that wait for each other while others have the
# cores must not spin.
PYTEST := OMP_WAIT_POLICY=PASSIVE $(BIN)/pytest --numprocesses auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-full lint docs lock clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

setup: $(STAMP) ## create .venv with the locked packages; CPU=1: without CUDA's
	@echo "daar is set up in $(VENV). Next: make demo, or . $(BIN)/activate && daar --help"

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "daar needs Python 3.11 or newer, $(PYTHON) is $$($(PYTHON) -V 2>&1). Run: make PYTHON=python3.11 $(MAKECMDGOALS)" >&2; exit 2; }
	@echo "Setting daar up in $(CURDIR)/$(VENV): $(SIZE)."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(INSTALL_LOCKED)
	@echo "All packages are there. Installing daar itself, from this checkout."
	@$(PIP) --quiet --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(STAMP) ## run the whole DAG on scikit-learn's digits, in minutes on a CPU
	@$(BIN)/python -m daar run demo

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow baselines daar
	$(BIN)/snakemake --lint
	$(BIN)/mypy
	$(BIN)/lint-imports pyproject.toml
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	$(BIN)/proselint check --config .proselintrc.json README.md CONTRIBUTING.md SECURITY.md docs

test: lint ## what CI runs: linters, types, unit and end-to-end tests
	$(PYTEST)

test-full: lint ## the same, with the long forms
	$(PYTEST) -m ""

docs: $(STAMP) ## these pages as a site: site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

lock: $(STAMP) ## resolve the pins again: requirements.lock and environment.yml
	$(BIN)/python workflow/scripts/lock.py

clean: ## remove all outputs of runs (keeps results/reference and .venv)
	rm -rf .snakemake && find results -mindepth 1 -maxdepth 1 ! -name reference -exec rm -rf {} +
