# Two commands do all the set-up: `make demo` runs the main job, `make test` runs the tests.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint reproduce-tiny clean

demo: .venv/.core
	$(BIN)/anomreason demo

test: .venv/.dev
	$(BIN)/python -m pytest

lint: .venv/.dev
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

.venv/.core: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing into .venv, some minutes (torch) ..."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[local]'
	touch $@

# torch is pinned so that the tests run on the same CPU build everywhere.
.venv/.dev: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[train,heif,score,scenes,dev]'
	touch $@ .venv/.core

# What fine-tuning gives and costs the bundled model; under an hour on two cores.
reproduce-tiny: .venv/.dev
	$(BIN)/python tools/reproduce_tiny.py --work reproduce

clean:
	rm -rf .venv demo dist reproduce
