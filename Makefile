# Two commands do all the set-up: `make demo` runs the main job, `make test` runs the tests.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint reproduce-tiny clean

demo: .venv/.core
	$(BIN)/anomreason demo

test: .venv/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --durations=20

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
	$(BIN)/python -m tools.tiny.reproduce --work reproduce

clean:
	rm -rf .venv demo dist reproduce
