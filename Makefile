# Every target makes its own .venv from pyproject.toml and the exact versions in constraints.txt.
# Choose the interpreter with PYTHON=..., pass arguments on with ARGS="...", choose tests with TESTS="...".

NEEDED  := (3, 11)
PYTHON  ?= $(firstword $(foreach p,python3 python3.14 python3.13 python3.12 python3.11 python,$(shell \
             $(p) -c 'import sys; sys.exit(sys.version_info < $(NEEDED))' 2>/dev/null && echo $(p))) python3)
VENV    := .venv
BIN     := $(VENV)/bin
RUNTIME := $(VENV)/.runtime-installed
DEV     := $(VENV)/.dev-installed
# The outside reader of the tests: npm's yjs. What needs it is skipped where it cannot be installed.
OUTSIDE := tests/outside/node_modules/.installed
FUZZER  := $(VENV)/.fuzzer-installed
ARGS    ?=
# What the fault harness compares with: npm packages, and Chroma in an environment of its own.
FAULTS  := bench/faults/systems
FAULT_PEERS := $(FAULTS)/node_modules/.installed $(FAULTS)/.venv/.installed
# Paths among ARGS are the tests to run: make test ARGS="tests/cli -k merge"
NAMED    = $(filter tests tests/% property_tests property_tests/%,$(ARGS))
TESTS   ?= $(if $(NAMED),,tests property_tests)

# As environment variables, the constraints also bind what pip installs in order to build (old and new pip in turn).
PIP_INSTALL = PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt \
              PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install --quiet

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test lint bench bench-peers bench-faults soak clean $(VENV)

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(RUNTIME) ## three devices part, write, meet again (ARGS="--input FILE" for your own export)
	@$(BIN)/aico-crdt demo $(ARGS)

test: $(DEV) $(OUTSIDE) ## every test, on two cores (TESTS="tests/cli" or ARGS="tests/cli -k merge" for some)
	$(BIN)/python -m pytest $(TESTS) -n 2 --dist worksteal --durations=10 $(ARGS)

$(OUTSIDE): tests/outside/package.json
	@if command -v npm >/dev/null && (cd tests/outside && npm install --silent --fetch-retries=0); then touch $@; \
	  else echo "npm's yjs is not here (no npm, or no network): tests/outside is skipped." >&2; fi

lint: $(DEV) ## ruff, strict types, import direction, house rules
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m tools.check_imports
	$(BIN)/python -m tools.check_house

bench: $(DEV) ## measure, and write bench/results.json (ARGS="NAME --quick")
	$(BIN)/python -m bench $(ARGS)

bench-peers: ## what bench compares with and pip does not bring (Node.js packages, pinned)
	cd bench/peers && npm install --no-audit --no-fund

bench-faults: $(DEV) $(FAULT_PEERS) ## faults on us and on others, and bench/faults/results.json (ARGS="FAULT --peers NAME --quick")
	$(BIN)/python -m bench.faults $(ARGS)

$(FAULTS)/node_modules/.installed: $(FAULTS)/package.json
	@command -v npm >/dev/null || { mkdir -p $(@D); echo "No npm: what needs Node.js is skipped." >&2; }
	! command -v npm >/dev/null || (cd $(FAULTS) && npm install --no-package-lock --no-audit --no-fund)
	@touch $@

$(FAULTS)/.venv/.installed: $(FAULTS)/constraints.txt
	$(PYTHON) -m venv $(@D)
	PIP_DISABLE_PIP_VERSION_CHECK=1 $(@D)/bin/python -m pip install --quiet --constraint $< chromadb
	@touch $@

soak: $(DEV) $(FUZZER) ## run for long, under faults
	$(BIN)/python -m bench.soak $(ARGS)

$(FUZZER): constraints.txt
	@$(PIP_INSTALL) --only-binary atheris atheris || echo "No Atheris for this Python: fuzzing will be blind." >&2
	@touch $@

clean: ## remove .venv, caches and builds
	rm -rf $(VENV) build dist *.egg-info .fuzz .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV): $(DEV)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < $(NEEDED))' 2>/dev/null || { \
	  echo "aico-crdt needs Python 3.11 or newer; '$(PYTHON)' is: $$($(PYTHON) --version 2>&1 || echo missing)." >&2; \
	  echo "Install one, or name it: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "'$(PYTHON) -m venv' failed. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }

$(RUNTIME): pyproject.toml constraints.txt | $(BIN)/python
	@echo "Setting up $(VENV) (once)"
	@$(PIP_INSTALL) --editable .
	@touch $@

$(DEV): pyproject.toml constraints.txt | $(BIN)/python
	@echo "Setting up $(VENV) with the tools for development (once)"
	@$(PIP_INSTALL) --editable '.[all,dev]' || { \
	  echo "If hnswlib failed to build: it needs a C++ compiler and Python's headers (g++, python3-dev)." >&2; exit 1; }
	@touch $(RUNTIME) $@
