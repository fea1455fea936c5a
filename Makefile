# Two commands on a fresh machine with Python: `make demo` and `make test`. Everything else is optional.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: demo up down test lint bench clean install lock

demo: install
	$(BIN)/payments demo

up: install
	$(BIN)/payments up

down: install
	$(BIN)/payments down

test: install
	$(BIN)/pytest

lint: install
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

bench: install
	$(BIN)/python -m benchmarks
	$(BIN)/python -m benchmarks.timers

clean:
	-$(BIN)/payments down --wipe
	rm -rf .venv .local .mypy_cache .ruff_cache .pytest_cache .hypothesis

install: $(INSTALLED)

# Compiled once here, not by each of twenty processes at its first start (or at every start, where none may write).
$(INSTALLED): requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==0.13.9
	$(BIN)/uv pip sync --quiet --compile-bytecode --require-hashes requirements.lock
	$(BIN)/uv pip install --quiet --no-deps --editable .
	touch $@

# After a change of dependencies. The lock has hashes and names no host.
lock: install
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --group dev --python-version 3.11 \
		--no-header --no-annotate --output-file requirements.lock pyproject.toml
