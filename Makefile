# What a person and CI run. Everything that is installed is installed by scripts/setup.

SHELL := /bin/bash
CARGO ?= cargo

# Most tests wait for a server most of the time, so more of them than there are cores run at once.
export RUST_TEST_THREADS ?= 4

.PHONY: help build demo test setup format lint documentation tests bench fuzz

help:
	@echo "make demo    build, lose a table, find the drop, and come back to just before it (seconds after the build)"
	@echo "make test    install what the tests need, check format, lints and documentation, run every test"
	@echo "make build   the three binaries, optimised, in target/release"
	@echo "make bench   figures beside pgBackRest, pg_basebackup, pg_receivewal, lz4 and cp on this machine, and of a million segments"
	@echo "make fuzz    every fuzz target for a minute"

build:
	$(CARGO) build --locked --release --bins

demo:
	scripts/setup demo
	$(CARGO) build --locked --release --bins
	scripts/demo

# Cheap checks first; the tests come last, so that their count ends the output.
test: setup format lint documentation tests

setup:
	@echo "== what the tests need"
	scripts/setup test

format:
	@echo "== format"
	$(CARGO) fmt --all --check

lint:
	@echo "== lints"
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings

documentation:
	@echo "== documentation"
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps --document-private-items

tests: setup
	@echo "== tests"
	$(CARGO) test --locked --workspace --no-fail-fast

bench:
	scripts/setup bench
	$(CARGO) build --locked --release --bins
	$(CARGO) build --locked --release --workspace --example large_archive
	bench/run
	bench/receive
	bench/archive

fuzz:
	scripts/fuzz
