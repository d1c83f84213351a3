# `make help` lists the targets. Everything is installed into .venv; nothing else on the machine is touched.
PYTHON ?= python3
BIN := .venv/bin
DEMO_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help install demo test browser lint format bench clean

help: ## List the targets
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: .venv/installed ## Install the project and all it needs into .venv

.venv/installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 …")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[local,registry,dev]'
	@touch $@

demo: install ## Run the whole pipeline on this machine: simulate, tag, load, ask (about a minute)
	$(BIN)/lineage demo $(DEMO_ARGS)

test: install browser ## Run all tests, on real Apache Kafka, the real ClickHouse engine and a real browser
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# Debian and Ubuntu, as root; elsewhere the tests of the pages say what to install, and are skipped.
browser: # Install Chromium, where there is none and it can be
	@for name in chromium chromium-browser google-chrome chrome; do command -v $$name >/dev/null && exit 0; done; \
	[ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null || exit 0; \
	get='apt-get install -qy --no-install-recommends chromium'; \
	{ $$get || { apt-get update -q && $$get; } } >/dev/null 2>&1 || true

lint: install ## Check format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: install ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: install ## Run the benchmarks (some minutes)
	$(BIN)/lineage bench tagger
	$(BIN)/lineage bench loader

clean: ## Remove what the targets made
	rm -rf .venv .lineage .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
