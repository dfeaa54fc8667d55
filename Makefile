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
	@tools/venv.sh $(GOAL) $(PYTHON) torch local
	@touch $@

# The documentation site, in site/: open site/index.html, or put the folder on any web server.
docs: .venv/.dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet && echo "Open site/index.html"

# torch is pinned so that the tests run on the same CPU build everywhere.
.venv/.dev: pyproject.toml
	@tools/venv.sh $(GOAL) $(PYTHON) torch==2.13.0 train,heif,score,scenes,dev
	@touch $@ .venv/.core

# What fine-tuning gives and costs the bundled model; under an hour on two cores.
reproduce-tiny: .venv/.dev
	$(BIN)/python -m tools.tiny.reproduce --work reproduce

clean:
	rm -rf .venv demo dist reproduce site
