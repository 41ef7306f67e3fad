# Every target sets up what it needs: a fresh clone and Python >= 3.11 are enough.
PYTHON ?= python3
BIN := .venv/bin

# PyPI's torch for Linux is a CUDA build of several gigabytes; this index has the one for CPUs.  Where it
# cannot be reached, pip takes what it finds.  `make TORCH_INDEX=https://pypi.org/simple test` has CUDA.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
torch = $(1)/bin/pip install --quiet --no-deps --retries 2 --index-url $(TORCH_INDEX) \
	--constraint $(2) torch || echo "no torch from $(TORCH_INDEX): pip looks elsewhere"

# What covers conversion, folders and preview.
CORE := $(addprefix tests/, checkpoint/test_containers.py cli/test_cli.py clip \
	conversion/test_convert.py output/test_diffusers_folder.py output/test_safetensors_writer.py \
	recipe/test_recipe.py report sd1/test_identify.py sd1/test_variants.py test_inspection.py \
	test_requirements.py \
	demo/test_demo.py::test_the_demo_command_shows_what_it_does \
	demo/test_demo.py::test_a_preview_is_the_same_each_time)

.PHONY: test quick oldest lint docs fuzz demo demo-model comparison schema

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(call torch,.venv,constraints.txt)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

# Neighbours share what a module sets up: each worker takes a run of tests, and helps at the end.
PYTEST := -m pytest -n auto --dist worksteal

test: .venv/installed
	$(BIN)/python $(PYTEST)

# What shows most faults, in about a minute.
quick: .venv/installed
	$(BIN)/python $(PYTEST) -m "not slow and not network and not browser"

.venv-oldest/installed: pyproject.toml constraints-oldest.txt
	$(PYTHON) -m venv .venv-oldest
	$(call torch,.venv-oldest,constraints-oldest.txt)
	.venv-oldest/bin/pip install --quiet --constraint constraints-oldest.txt --editable . \
		jsonschema pytest pytest-xdist
	touch $@

# The core with the oldest versions that pyproject.toml allows.
oldest: .venv-oldest/installed
	.venv-oldest/bin/python $(PYTEST) $(CORE)

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The documentation site, into build/site: broken links are errors.
docs: .venv/installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# The reader against a million damaged files.
fuzz: .venv/installed
	$(BIN)/python -m tests.fuzz --mutations 1000000

# The main job on the embedded model: see demo/before-after.png.
demo: .venv/installed
	$(BIN)/erasepro-convert demo demo --force

# Train the embedded model anew (tools/demo_model/README.md): hours.
demo-model: .venv/installed
	$(BIN)/python -m tools.demo_model build/demo_model erasepro_convert/demo

# What docs/comparison.md lacks of every method on every task of the embedded model, and its tables: an hour and a
# half for all of it on two cores.  Several may run at once: each takes what none has yet.
comparison: .venv/installed
	$(BIN)/python -m benchmarks.comparison
	$(BIN)/python -m benchmarks.comparison_page

# After a change of the models of manifests, evidence or recipes, or of a shipped recipe.
schema: .venv/installed
	$(BIN)/python -m erasepro_convert.manifest
	$(BIN)/python -m erasepro_convert.release
	$(BIN)/python -m erasepro_convert.recipe
	$(BIN)/python -m tools.recipe_page
