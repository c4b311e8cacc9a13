# All that a fresh clone needs is Python >= 3.11, pip and make. Another Python: make test PYTHON=python3.12
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq
TOO_OLD := Simfer needs Python 3.11 or later, and $(PYTHON) is not. Name one that is: make PYTHON=python3.12

.PHONY: help demo test quick lint check docs clean
.DELETE_ON_ERROR:

help:
	@echo "make demo   from the lynx and hare record to a posterior, in about three minutes"
	@echo "make test   style, types, import contracts and tests"
	@echo "make quick  the same without the tests that run the chain"
	@echo "make lint   the same without any tests"
	@echo "make check  the same as make test, and then the slow tests"
	@echo "make docs   the site of docs/ into build/docs/; open build/docs/index.html"
	@echo "make clean  remove the environment and the caches; artifacts stay"

demo: .venv/installed
	$(BIN)/simfer run configs/lynx_hare.toml

# Two files of tests at a time: most of a test is one core's compilation.
test: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile

# While you work: what you changed last is compiled anew, and nothing else.
quick: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow and not campaign and not chain"

lint: .venv/installed-test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

check: test
	$(BIN)/python -m pytest -m slow -n 2 --dist loadfile

# Offline, and strict: a link that leads nowhere ends it.
docs: .venv/installed-test
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet -b html docs build/docs

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

# Installed anew when what is asked for has changed, and not otherwise.
.venv/installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing Simfer into .venv; this takes a minute or two"
	@$(PIP) install --constraint constraints.txt --editable .
	@touch $@

.venv/installed-test: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing Simfer and what its tests need into .venv; this takes a minute or two"
	@$(PIP) install --constraint constraints.txt --editable ".[test]"
	@touch .venv/installed $@

$(BIN)/python:
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || { echo "$(TOO_OLD)" >&2; exit 1; }
	@$(PYTHON) -m venv .venv
