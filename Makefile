# Everything that people and CI do with this project. `make help` lists it.

SHELL := /bin/sh
SEED ?=

.DEFAULT_GOAL := help
.PHONY: help run stop test sim bench build fmt clean-run

help: ## Lists the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

run: ## Sets up, builds, starts the orchestra and works off dag/example.yaml
	@scripts/run

stop: ## Lets running work end, then stops the orchestra that `make run` started
	@scripts/stop

test: ## Runs every check that CI runs; `scripts/test clippy links` runs some of them
	@scripts/test

sim: ## Runs the simulation; `make sim SEED=7` runs one seed
	@scripts/sim "$(SEED)"

bench: ## Measures the figures of docs/performance.md
	@scripts/bench

build: ## Builds the release binary, target/release/miyabi
	@cargo build --release --locked

fmt: ## Formats the Rust sources
	@cargo fmt

clean-run: ## Removes data/ and logs/ with everything that `make run` made; the orchestra must be stopped
	@scripts/clean-run
