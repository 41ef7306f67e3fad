# Every target sets up what it needs: a fresh clone and Python >= 3.11 are enough.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: test lint demo schema

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

# The main job on a miniature with random weights, written on the spot.
demo: .venv/installed
	mkdir -p demo
	$(BIN)/python -m tests.miniature demo/miniature.ckpt
	$(BIN)/erasepro-convert --force recipes/van-gogh.yaml demo/miniature.ckpt demo/erased.safetensors

# After a change of the manifest's models.
schema: .venv/installed
	$(BIN)/python -m erasepro_convert.manifest
