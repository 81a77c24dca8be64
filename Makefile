# Two commands do all the set-up: `make demo` and `make test`. They need Python 3.11 or newer and nothing else.

VENV := .venv
BIN := $(VENV)/bin
PYTHONS := $(or $(PYTHON),python3.12 python3.11 python3.13 python3)
PORT := 8000
SERVE := 1

# It has to start, be new enough and be able to make environments: a name on the path alone says nothing.
FITS := import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))

.PHONY: help demo test lint format type docs clean

# Two installations into one environment at the same time would spoil it.
.NOTPARALLEL:

help:
	@echo 'make demo            run the bank on an embedded Redis, then serve it; SERVE=0 stops after the summary'
	@echo 'make test            run the suite on the servers that this machine has; ARGS="-k name" chooses'
	@echo 'make lint            check the manner of the code; make format puts right what can be'
	@echo 'make type            check the types'
	@echo 'make docs            build the documentation into docs/_build/html'
	@echo 'make clean           remove what these made, the environment included'

demo: $(VENV)/with-demo
	@PORT='$(PORT)' SERVE='$(SERVE)' $(BIN)/python -m testproject.redis -- sh -ec '\
		$(BIN)/python -m testproject.manage migrate --verbosity 0; \
		$(BIN)/python -m testproject.manage demo $(ARGS); \
		if [ "$$SERVE" != 0 ]; then exec $(BIN)/python -m testproject.manage runserver --noreload "$$PORT"; fi'

test: $(VENV)/with-demo $(VENV)/with-test
	@$(BIN)/python -m tests.servers -- $(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/with-lint
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

format: $(VENV)/with-lint
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

type: $(VENV)/with-demo $(VENV)/with-test $(VENV)/with-type
	@$(BIN)/mypy
	@$(BIN)/pyright --pythonpath $(BIN)/python testproject
	@$(BIN)/python -m pytest -q tests/test_types.py

docs: $(VENV)/with-docs
	@$(BIN)/sphinx-build --fail-on-warning --keep-going --quiet -b html docs docs/_build/html

clean:
	rm -rf $(VENV) .tox build dist docs/_build htmlcov *.egg-info .coverage .coverage.* .coverage-* \
		.hypothesis .mypy_cache .pytest_cache .ruff_cache testproject/db.sqlite3*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# One stamp for each extra: installed again only when the metadata changed.
$(VENV)/with-%: setup.cfg pyproject.toml $(VENV)/made
	@echo 'Installing the package with what "$*" needs ...'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	@touch $@

$(VENV)/made:
	@rm -rf $(VENV); for python in $(PYTHONS); do \
		if $$python -c '$(FITS)' >/dev/null 2>&1; then break; fi; python=; \
	done; \
	if [ -z "$$python" ]; then \
		echo 'No Python 3.11 or newer that can make environments among: $(PYTHONS).' >&2; \
		echo 'Name one with PYTHON=..., and on Debian install python3-venv.' >&2; \
		exit 1; \
	fi; \
	echo "Making $(VENV) with $$($$python --version) ..."; $$python -m venv $(VENV)
	@touch $@
