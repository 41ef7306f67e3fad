# Every target sets up what it needs: a fresh clone and Python >= 3.11 are enough.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: test lint fuzz demo demo-model comparison schema

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

test: .venv/installed
	$(BIN)/python -m pytest -n auto

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The reader against a million damaged files.
fuzz: .venv/installed
	$(BIN)/python -m tests.fuzz --mutations 1000000

# The main job on the embedded model: see demo/before-after.png.
demo: .venv/installed
	$(BIN)/erasepro-convert demo demo

# Train the embedded model anew (tools/demo_model/README.md): hours.
demo-model: .venv/installed
	$(BIN)/python -m tools.demo_model build/demo_model erasepro_convert/demo

# Every method on every task of the embedded model, into docs/comparison.md: an hour and a half.
comparison: .venv/installed
	$(BIN)/python -m benchmarks.comparison

# After a change of the manifest's models.
schema: .venv/installed
	$(BIN)/python -m erasepro_convert.manifest
