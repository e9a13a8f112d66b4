# make demo   virtual environment, install, compare the embedded pair, write runs/demo/report.html
# make test   the same environment, then all tests of the package
# make examples   the same environment, then everything that README, documentation, examples and notebooks show
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test examples install lint types docs browser models clean

demo: install
	$(BIN)/itlens demo --out runs/demo

test: install browser models
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not documentation"

examples: docs browser models
	$(BIN)/python -m pytest -n 2 --dist loadfile -m documentation

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

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
