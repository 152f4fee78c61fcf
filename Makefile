# Needs python3 >= 3.11 and nothing else; every target makes the environment it uses.

PYTHON ?= python3
VENV := .venv
LOWEST := .venv-lowest
BIN := $(VENV)/bin
# One thread a process: two test processes with two threads each run slower on two cores than with one each.
PYTEST := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest
JOBS ?= 2

.DEFAULT_GOAL := help
.PHONY: help install demo test test-all test-lowest lint format benchmark docs figures notebooks clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*##/\1:/p' $(MAKEFILE_LIST)

install: $(VENV)/.stamp  ## the environment in .venv, with the tested versions of constraints.txt

$(VENV)/.stamp: pyproject.toml constraints.txt scripts/make-venv
	scripts/make-venv $(PYTHON) $(VENV) constraints.txt dev,web-tests
	@touch $@

$(LOWEST)/.stamp: pyproject.toml constraints-lowest.txt scripts/make-venv
	scripts/make-venv $(PYTHON) $(LOWEST) constraints-lowest.txt
	@touch $@

demo: $(VENV)/.stamp  ## data made, model trained, measured and drawn: minutes on two CPU cores
	$(BIN)/maskrcnn demo

test: lint  ## what has to pass before every commit
	$(PYTEST) -m "not slow" -n $(JOBS)

test-all: lint  ## the slow tests too
	$(PYTEST) -n $(JOBS)

test-lowest: $(LOWEST)/.stamp  ## the tests with the oldest versions that pyproject.toml allows
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(LOWEST)/bin/python -m pytest -m "not slow" -n $(JOBS)

lint: $(VENV)/.stamp  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.stamp  ## let ruff lay out the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

benchmark: $(VENV)/.stamp  ## our speed next to torchvision's
	$(BIN)/python benchmarks/benchmark.py

docs: $(VENV)/.stamp  ## the site, in build/docs; every warning is an error
	$(BIN)/python -m sphinx -W --keep-going -n -q docs build/docs
	@echo build/docs/index.html

figures: $(VENV)/.stamp  ## the figures of the site, drawn anew
	$(BIN)/python docs/figures/draw_all.py

notebooks: $(VENV)/.stamp  ## run the notebooks and write docs/notebooks: half an hour
	$(BIN)/python scripts/render-notebooks

clean:  ## remove what the targets made, runs/ excepted
	rm -rf $(VENV) $(LOWEST) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis src/*.egg-info
