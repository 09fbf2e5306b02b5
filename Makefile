# Everyday commands. `make` alone lists them. Options for the program behind a target go in ARGS:
#   make demo ARGS="--base-port 4300"      make test ARGS="tests/auth -k login"
PYTHON ?= python3
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
UV := $(if $(wildcard $(BIN)/uv),$(BIN)/uv,uv)
EXPORT := $(UV) export --quiet --frozen --no-emit-project --no-annotate --no-header

# What has been installed into the environment; each is older than the file that it was made from when that changes.
VENV_READY := $(VENV)/.ready
RUN_READY := $(VENV)/.run-installed
APP_READY := $(VENV)/.app-installed
DEV_READY := $(VENV)/.dev-installed

.DEFAULT_GOAL := help
.PHONY: help install demo test test-calendar lint format bench migrate docs prices lock clean test-services
.DELETE_ON_ERROR:

help: ## List these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

install: $(APP_READY) ## Build .venv with all that running needs, and put quarterdeck in it

demo: install ## Start a control plane, two workers and a sample provider on this machine
	@$(BIN)/quarterdeck demo $(ARGS)

test: $(DEV_READY) $(APP_READY) test-services ## Run every test, in parallel, with real PostgreSQL, Redis and Chromium
	$(BIN)/python -m pytest -n auto $(ARGS)

test-calendar: $(DEV_READY) $(APP_READY) test-services ## Run the tests at other times and in other zones; ARGS=--quick: a minute
	$(BIN)/python -m tests.calendar $(ARGS)

lint: $(DEV_READY) $(APP_READY) ## Check style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(DEV_READY) ## Rewrite the Python files in the project's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(DEV_READY) $(APP_READY) ## Measure speed on this machine
	$(BIN)/python -m bench $(ARGS)

migrate: install ## Bring the database that DATABASE_URL names up to date
	$(BIN)/quarterdeck migrate $(ARGS)

docs: $(DEV_READY) $(APP_READY) ## Rewrite docs/configuration.md, docs/routes.md and the route table of docs/compatibility.md
	$(BIN)/python -m tools.reference

prices: $(DEV_READY) $(APP_READY) ## Rewrite the bundled prices from genai-prices; read the diff
	$(BIN)/python tools/refresh_prices.py

lock: $(VENV_READY) ## Resolve the dependencies of pyproject.toml anew into requirements*.lock
	@command -v $(UV) >/dev/null || $(PIP) install --quiet uv
	$(UV) lock --upgrade $(ARGS)
	$(EXPORT) --no-default-groups --group build --output-file requirements.lock >/dev/null
	$(EXPORT) --all-groups --output-file requirements-dev.lock >/dev/null

clean: ## Remove the environment and all caches; the data of the demo in .quarterdeck/ stays
	rm -rf $(VENV) tests/clients/.venv tests/clients/node_modules .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

test-services: # PostgreSQL, Redis and Chromium for the tests; they start their own private ones
	@tests/services/install

$(VENV_READY):
	@command -v $(PYTHON) >/dev/null || { echo "Quarterdeck needs Python 3.11 or later, and there is no '$(PYTHON)' here." \
	  "Install it, or name yours: make install PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Quarterdeck needs Python 3.11 or later;" \
	  "'$(PYTHON)' is $$($(PYTHON) --version 2>&1). Name another: make install PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "'$(PYTHON)' cannot make virtual environments." \
	  "On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV)
	@touch $@

$(RUN_READY): requirements.lock | $(VENV_READY)
	$(PIP) install --quiet --require-hashes --requirement requirements.lock
	@touch $@

$(DEV_READY): requirements-dev.lock | $(APP_READY)
	$(PIP) install --quiet --require-hashes --requirement requirements-dev.lock
	@touch $@

$(APP_READY): pyproject.toml $(RUN_READY)
	$(PIP) install --quiet --no-build-isolation --no-deps --editable .
	@touch $@
