# Needs python3 >= 3.11, make and git; everything else comes into .venv by itself.
SHELL := /bin/sh
PYTHON ?= python3

# A stamp carries the hash of what decides the environment, so a second start finds it and is done.
pins := $(shell cat pyproject.toml requirements.txt requirements-dev.txt scripts/environment | cksum | tr -cd 0-9)
runtime := .venv/runtime-$(pins)
dev := .venv/dev-$(pins)
bin := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help demo test check soak lint bench bench-ui bench-scale browser prometheus screenshots requirements

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' Makefile

demo: $(runtime) ## the dashboard on a store of sample users, http://127.0.0.1:8501
	@EVENT_STORE_DOMAIN=users:domain $(bin)/python -m dashboard --demo

test: lint browser prometheus ## lint, then every test but soak: real PostgreSQL, real Chromium
	@$(bin)/python -m pytest -n 3 --dist worksteal tests/unit tests/contract tests/concurrency
	@$(bin)/python -m pytest -n 2 --dist worksteal tests/browser
	@$(bin)/python -m pytest -n 2 --dist worksteal tests/faults

check: lint prometheus ## lint, unit and contract tests: before every commit, under 2 minutes
	@$(bin)/python -m pytest -m "not soak and not slow" -n 2 tests/unit tests/contract

soak: $(dev) ## minutes of load
	@$(bin)/python -m pytest -m soak --timeout 1800

lint: $(dev) ## ruff, mypy and the import contracts
	@$(bin)/ruff check --quiet
	@$(bin)/ruff format --check --quiet || { echo "run .venv/bin/ruff format" >&2; exit 1; }
	@$(bin)/mypy
	@$(bin)/lint-imports --no-logo

bench: $(dev) ## speed beside bare drivers and a peer
	@$(bin)/python -m benchmarks

bench-ui: browser ## speed of the dashboard beside an empty page, in Chromium
	@$(bin)/python -m benchmarks.ui

bench-scale: browser ## speed on 10,000 to 10,000,000 events: as fast on the largest store
	@$(bin)/python -m benchmarks.scale

browser: $(dev) ## find a Chromium for the tests, or install one
	@$(bin)/python -m tests.chromium

prometheus: $(dev) ## find a Prometheus for the tests, or unpack Debian's
	@$(bin)/python -m tests.prometheus

screenshots: browser ## take the pictures of the README and the docs anew
	@$(bin)/python -m scripts.screenshots

requirements: ## resolve the pinned requirements anew (needs uv)
	@uv pip compile --quiet --upgrade $(compile) -o requirements.txt
	@uv pip compile --quiet --upgrade $(compile) --group dev -c requirements.txt -o requirements-dev.txt

compile := pyproject.toml --all-extras --universal --python-version 3.11 --no-emit-index-url \
	--no-emit-find-links --custom-compile-command "make requirements"

$(runtime):
	@PYTHON="$(PYTHON)" scripts/environment requirements.txt
	@touch $@

$(dev):
	@PYTHON="$(PYTHON)" scripts/environment requirements-dev.txt
	@touch $@
