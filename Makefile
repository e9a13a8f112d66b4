# make demo   virtual environment, install, compare the embedded pair, write runs/demo/report.html
# make test   the same environment and what the tests need, then the tests of the package
# make long   the same environment, then the tests that take minutes: nulls over hundreds of draws, whole reports in Chromium
# make examples   the same environment, then everything that README, documentation, examples and notebooks show
# make cluster   the same environment, then the tests that start a Ray cluster of two workers
# make transformerlens4   the tests of loading, probes and findings that are of TransformerBridge, with TransformerLens 4
# make wheel   build the wheel, and run it in an environment of its own
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# an import of the package compiles 350 modules where nobody has kept them: tests start many processes
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test long examples cluster run-only install compiled lint types docs browser models transformerlens4 wheel clean

demo: run-only
	$(BIN)/itlens demo --out runs/demo

test: install browser models compiled
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not documentation and not cluster and not long"

long: install browser compiled
	$(BIN)/python -m pytest -n 2 --dist loadfile -m long

examples: docs browser models compiled
	$(BIN)/python -m pytest -n 2 --dist loadfile -m documentation

# what a run needs
run-only: $(VENV)/.run-only

$(VENV)/.run-only: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

# what the tests, lint and types need as well
install: $(VENV)/.installed

$(VENV)/.installed: $(VENV)/.run-only
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

# TransformerLens 4 in a folder in front of the environment's own packages (it needs no others than TransformerLens 3)
transformerlens4: install
	test -e .transformerlens4/.installed || $(BIN)/python -m pip install --quiet --no-deps --target .transformerlens4 \
		--requirement constraints-transformerlens4.txt
	touch .transformerlens4/.installed
	PYTHONPATH=$(CURDIR)/.transformerlens4 $(BIN)/python -m pytest -n 2 --dist loadfile -k bridge tests/hooked tests/models \
		tests/weights tests/findings tests/planted

# studies on a Ray cluster of two workers, which want the cores for themselves
cluster: install
	$(BIN)/python -m pytest -m cluster tests/study

# the wheel as users get it: built, installed into an environment of its own beside the dependencies, and run there
wheel: install
	sh tests/run_wheel.sh $(BIN)/python

compiled: run-only
	$(BIN)/python -m compileall -q -j 2 itlens

# headless Chromium for the tests of the report; those tests say so where it is missing
browser:
	sh tests/install_browser.sh

# a small chat model for the test of labels; that test says so where it is missing
models: install
	sh tests/install_models.sh $(BIN)/python

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy itlens

docs: install
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[docs]"
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --site-dir site

clean:
	rm -rf $(VENV) site dist build runs/demo
