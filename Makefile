# gpt2lab: `make train` and `make test` need nothing but Python 3.11 or newer and pip.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Where a machine has a wheel of the pinned torch build for Python 3.11, pip finds it through its own configuration.
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: help setup train test portable lint bench bench-check clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 10

setup: $(VENV)/test.stamp  ## make .venv with everything for training and testing

train: $(VENV)/train.stamp  ## prepare the default corpus, train the default model (2 to 5 minutes on 2 cores), score and sample it
	$(BIN)/python train.py
	$(BIN)/python eval.py
	$(BIN)/python sample.py prompt="The state of the Union" sampling.num_samples=2 sampling.temperature=0.8

test: $(VENV)/test.stamp  ## run the whole test suite
	$(BIN)/python -m pytest --numprocesses 2 --maxschedchunk 1

portable: $(VENV)/test.stamp  ## run the numerics tests as a processor without AVX-512 and AMX computes
	ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 $(BIN)/python -m pytest --numprocesses 2 tests/numerics

lint: $(VENV)/lint.stamp  ## style, types, and which layer may import which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/test.stamp  ## measure speed and memory against the usual tools, side by side, alone on the machine; on the GPU where there is one (make bench QUICK=--quick: about 10 minutes)
	$(BIN)/python -m benchmarks $(QUICK)

bench-check: $(VENV)/test.stamp  ## compare the quick ratios with the newest stored ones
	$(BIN)/python -m benchmarks --quick --check

clean:  ## remove .venv and caches; data and runs stay
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "gpt2lab needs Python 3.11 or newer, this is " + sys.version.split()[0] + ": type make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/train.stamp: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL) --editable .
	touch $@

$(VENV)/test.stamp: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL) --editable '.[test]'
	touch $@

$(VENV)/lint.stamp: $(VENV)/test.stamp
	$(INSTALL) --editable '.[lint]'
	touch $@
