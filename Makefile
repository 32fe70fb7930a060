# make help lists the targets. On a machine without an accelerator nothing has to be installed first
# but Python 3.11: every target sets up its environment.

SHELL := /bin/bash
.DEFAULT_GOAL := help
export VENV ?= .venv
BIN := $(VENV)/bin

# Where runs lie, what is trained, with which seed, and further settings of verl or the recipe.
RUNS ?= runs
RECIPE ?= mifo
SEED ?= 0
SEEDS ?= 0
EXTRA ?=
RUN ?= $(RUNS)/$(RECIPE)-seed$(SEED)
WORLD := $(or $(MIFO_WORLD),world)
# A comparison has its own runs: they validate on the held-out questions.
COMPARE ?= $(RUNS)/compare
HELD_OUT := data.val_files=$(WORLD)/heldout.parquet
# The recipe named last is the one that the others are compared with.
RECIPES ?= mifo grpo
COMPARED := $(foreach recipe,$(RECIPES),$(SEEDS:%=$(COMPARE)/$(recipe)-seed%))

# Two at a time, a file of tests in one process: while one waits for Ray or vLLM to start, the other
# has the processors.
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

train = $(strip scripts/train.sh $(1) +recipe=$(2) seed=$(3) $(4) $(EXTRA))

.PHONY: help setup world demo demo-compare test test-all test-fast lint format pages bench clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

setup:  ## make the environment (about 2 minutes; instant when it is there)
	@scripts/setup.sh

world: setup  ## build the embedded world and its tiny model, when missing
	@$(BIN)/mifo world build

demo: world  ## train with +recipe=mifo and show what it did (RECIPE= SEED= RUN= EXTRA= VERBOSE=1)
	@$(call train,$(RUN),$(RECIPE),$(SEED))
	@$(BIN)/mifo report $(RUN)

demo-compare: world  ## recipes on held-out questions, same seeds (RECIPES="mifo grpo" SEEDS="0 1 2")
	@set -e; for seed in $(SEEDS); do for recipe in $(RECIPES); do \
	    $(call train,$(COMPARE)/$$recipe-seed$$seed,$$recipe,$$seed,$(HELD_OUT)); \
	done; done
	@$(BIN)/mifo report $(COMPARED) --into $(COMPARE)

test: setup  ## the tests, real training runs included (about 17 minutes)
	@$(PYTEST) -m "not recipes"

test-all: setup  ## all of them, and every recipe trained and resumed for real (under 60 minutes)
	@$(PYTEST)

test-fast: setup  ## the tests that need no training run (under 3 minutes)
	@$(PYTEST) -m "not slow"

lint: setup  ## ruff and mypy --strict
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: setup  ## put the code into ruff's format
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

pages: setup  ## write the tables of the recipes' pages anew, from the configurations
	@PYTHONPATH=. $(BIN)/python scripts/recipe_pages.py

bench: setup  ## what the method costs on this machine, as a table (a minute; more: docs/scaling.md)
	@$(BIN)/python benchmarks/short.py

clean:  ## remove the environment, the world and caches (runs stay)
	rm -rf $(VENV) world outputs build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
