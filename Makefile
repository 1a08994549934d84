# Everything runs in an environment of the project's own, made from the hashed lock file.
PYTHON ?= python3
BIN := .venv/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: run test lint bench reliability lock
.DEFAULT_GOAL := run

run: .venv/ready
	@$(BIN)/marketplace install OpenAI --if-missing
	@exec $(BIN)/marketplace serve $(SERVE)

test: .venv/ready
	$(BIN)/python -m pytest

lint: .venv/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: .venv/ready
	$(BIN)/python -m tests.bench

reliability: .venv/ready
	$(BIN)/python -m tests.reliability $(RELIABILITY)

lock: .venv/ready
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		--all-extras --output-file requirements.lock --upgrade pyproject.toml

.venv/ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=...")'
	@echo "Setting up .venv from requirements.lock; this takes about a minute."
	@$(PYTHON) -m venv --clear .venv
	@$(BIN)/pip install --quiet --require-hashes --requirement requirements.lock
	@$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@
