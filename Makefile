# Two commands do all the set-up: `make demo` runs the main job, `make test` runs the tests.
#   make demo PYTHON=python3.12    another Python than python3; it must be 3.11 or newer
#   make demo CPU=1                torch without NVIDIA's libraries
#   make test JOBS=4               tests in four processes instead of one for each CPU, eight at most
PYTHON ?= python3
CPU ?=
JOBS ?= $(shell n=$$(getconf _NPROCESSORS_ONLN); echo $$((n > 8 ? 8 : n)))
BIN := .venv/bin
GOAL := $(firstword $(MAKECMDGOALS) demo)
export CPU

.PHONY: demo test lint docs reproduce-tiny clean

demo: .venv/.core
	$(BIN)/anomreason demo

test: .venv/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal --durations=20

lint: .venv/.dev
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

.venv/.core: pyproject.toml
	@tools/venv.sh $(GOAL) $(PYTHON) .venv local torch
	@touch $@

# The documentation site, in site/: open site/index.html, or put the folder on any web server.
docs: .venv-docs/.docs
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --quiet && echo "Open site/index.html"

# Sources are read, not run, so a small environment is enough, and .venv stays as it is.
.venv-docs/.docs: pyproject.toml
	@tools/venv.sh $(GOAL) $(PYTHON) .venv-docs docs
	@touch $@

# torch is pinned so that the tests run on the same CPU build everywhere.
.venv/.dev: pyproject.toml
	@tools/venv.sh $(GOAL) $(PYTHON) .venv train,heif,score,scenes,dev torch==2.13.0
	@touch $@ .venv/.core

# What fine-tuning gives and costs the bundled model; under an hour on two cores.
reproduce-tiny: .venv/.dev
	$(BIN)/python -m tools.tiny.reproduce --work reproduce

clean:
	rm -rf .venv .venv-docs demo dist reproduce site
