# Everything here runs in one environment, .venv, made where it is missing and mended when the
# files that say what belongs in it change.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
JOBS ?= 2
PLUGINS := plugins/tiny plugins/baselines

BIN := .venv/bin
STAMP := .venv/made
# Packages that were built beforehand are used where somebody left some.
WHEELS := $(if $(wildcard ../shared/wheels),--find-links ../shared/wheels)
PIP = $(BIN)/python -m pip --quiet --quiet --disable-pip-version-check
EDITABLE := --editable .[dev] $(addprefix --editable ,$(PLUGINS))
CHECKED := geomag plugins tools configs tests
TYPED := geomag

.PHONY: help environment demo test lint format ci clean

help:
	@echo "make demo                            a question about a drawn scene, answered under out/demo"
	@echo "make demo SCENE=FILE PROMPT=\"...\"    the same about an image of yours"
	@echo "make test                            all tests and the conformance checks of what is installed"
	@echo "make lint                            ruff, mypy, codespell"
	@echo "make format                          what ruff can mend by itself"
	@echo "make ci                              what the continuous integration runs"

environment: $(STAMP)

# torch goes first, by its exact version, so that nothing else chooses one.
$(STAMP): constraints.txt setup.cfg $(addsuffix /setup.cfg,$(PLUGINS))
	@echo "Making the environment in .venv; this takes a minute or two."
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(PIP) install --constraint constraints.txt $(shell grep -E '^(torch|setuptools)==' constraints.txt)
	@$(PIP) install --constraint constraints.txt $(WHEELS) --no-build-isolation $(EDITABLE)
	@touch $@

demo: $(STAMP)
	@$(BIN)/python tools/demo.py $(if $(SCENE),--scene "$(SCENE)") $(if $(PROMPT),--prompt "$(PROMPT)")

test: $(STAMP)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS)

lint: $(STAMP)
	@$(BIN)/ruff check $(CHECKED)
	@$(BIN)/ruff format --check $(CHECKED)
	@$(BIN)/mypy $(TYPED)
	@$(BIN)/codespell

format: $(STAMP)
	@$(BIN)/ruff check --fix $(CHECKED)
	@$(BIN)/ruff format $(CHECKED)

ci: lint test

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist *.egg-info plugins/*/*.egg-info
