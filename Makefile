# Every target does all of its own set-up: the first run makes .venv and installs what
# constraints.txt pins (minutes, about 3 GB), later runs start at once.

VENV   := .venv
PYTHON := $(VENV)/bin/python
READY  := $(VENV)/.installed
JOBS   ?= 2

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export MPLBACKEND := Agg
# TensorFlow's start-up chatter; real errors stay
export TF_CPP_MIN_LOG_LEVEL ?= 2

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help test test-long docs demo demo-train lint clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

test: $(READY) ## run the tests (JOBS=2 processes)
	@$(PYTHON) -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

test-long: $(READY) ## run the tests that the others leave out: sweeps and surveys of many processes, killed and resumed (5 min)
	@$(PYTHON) -m pytest -m long $(ARGS)

docs: $(READY) ## the documentation, with its tutorials run, into docs/_build/html (3 min); a warning is an error
	@$(PYTHON) -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

demo: $(READY) ## super-resolve simulated galaxies, or FILE=my_prism.fits, with the shipped model, into demo/
	@$(PYTHON) -m examples enhance --output demo $(if $(FILE),--file $(FILE))

demo-train: $(READY) ## simulate, build, train a reduced model, super-resolve, into demo-train/ (15 min)
	@$(PYTHON) -m examples train --output demo-train

lint: $(READY) ## style, format and import order
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m ruff format --check .
	@$(PYTHON) -m pytest -q tests/test_imports.py

clean: ## remove what was built (keeps .venv; remove that by hand)
	@rm -rf build dist docs/_build demo demo-train *.egg-info .pytest_cache .ruff_cache .hypothesis
	@find . -path ./$(VENV) -prune -o -type d -name __pycache__ -print | xargs rm -rf

# A half-made .venv (interrupted, or its Python gone) is made again; a working one is kept and brought up to date.
$(READY): setup.cfg pyproject.toml constraints.txt
	@if ! $(PYTHON) -m pip --version >/dev/null 2>&1; then \
	  for python in python3.11 python3; do \
	    if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then break; fi; \
	    python=; \
	  done; \
	  if [ -z "$$python" ]; then \
	    echo "kspecsr needs Python 3.11 or newer, but neither python3.11 nor python3 on PATH is that." >&2; \
	    echo "Install Python 3.11 and run make again." >&2; exit 1; \
	  fi; \
	  echo "Making $(VENV) with $$($$python --version) ..."; \
	  if ! "$$python" -m venv --clear $(VENV); then \
	    echo "Could not make $(VENV). On Debian and Ubuntu the module is a package of its own: python3.11-venv." >&2; \
	    exit 1; \
	  fi; \
	fi
	@echo "Installing kspecsr and what it needs into $(VENV) (some minutes, once) ..."
	@$(PYTHON) -m pip install -qq --no-input --constraint constraints.txt --editable '.[dev]'
	@touch $@
