# Everything here runs in one environment, .venv, made where it is missing and mended when the
# files that say what belongs in it change.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
JOBS ?= 2
PLUGINS := plugins/tiny plugins/baselines plugins/reference

BIN := .venv/bin
STAMP := .venv/made
# Packages that were built beforehand are used where somebody left some.
WHEELS := $(if $(wildcard ../shared/wheels),--find-links ../shared/wheels)
PIP = $(BIN)/python -m pip --quiet --quiet --disable-pip-version-check
EDITABLE := --editable .[dev] $(addprefix --editable ,$(PLUGINS))
CHECKED := geomag plugins tools configs tests
TYPED := geomag

# plugins/openmmlab is tested in an environment laid over .venv: mmdetection holds numpy and OpenCV
# at older versions. mmcv is there as pip builds it where it sees no torch, without compiled ops; a
# wheel that has them is laid over that in turn.
OPENMMLAB := .venv-openmmlab
OPS := .venv-openmmlab-ops
MMCV_WHEEL ?= $(firstword $(wildcard ../shared/wheels/onedl_mmcv-*.whl))
OPENMMLAB_TESTS := plugins/openmmlab/tests plugins/reference/tests/test_grid.py geomag/testing -k openmmlab
OVER = @$(BIN)/python tools/lay_over.py

.PHONY: help environment demo test test-reference test-openmmlab lint format ci clean

help:
	@echo "make demo                            a question about a drawn scene, answered under out/demo"
	@echo "make demo SCENE=FILE PROMPT=\"...\"    the same about an image of yours"
	@echo "make test                            the tests and conformance checks of the frame and its default"
	@echo "make test-reference                  those of plugins/reference"
	@echo "make test-openmmlab                  those of plugins/openmmlab, without and with compiled ops"
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
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) -k "not reference/"

test-reference: $(STAMP)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) plugins/reference/tests geomag/testing -k reference

test-openmmlab: $(OPENMMLAB)/made $(if $(MMCV_WHEEL),$(OPS)/made)
	@echo "plugins/openmmlab without compiled ops"
	@OMP_NUM_THREADS=1 $(OPENMMLAB)/bin/python -m pytest -n $(JOBS) $(OPENMMLAB_TESTS)
ifneq ($(MMCV_WHEEL),)
	@echo "plugins/openmmlab with compiled ops, of $(notdir $(MMCV_WHEEL))"
	@OMP_NUM_THREADS=1 $(OPS)/bin/python -m pytest -n $(JOBS) $(OPENMMLAB_TESTS)
else
	@echo "plugins/openmmlab with compiled ops: skipped, for there is no wheel of mmcv that has them;" \
		"make test-openmmlab MMCV_WHEEL=FILE names one"
endif

$(OPENMMLAB)/made: $(STAMP) constraints-openmmlab.txt plugins/openmmlab/setup.cfg
	@echo "Making the environment of plugins/openmmlab; this takes a minute or two."
	$(OVER) $(OPENMMLAB) .venv
	@$(PIP) wheel --no-deps --no-cache-dir --wheel-dir $(OPENMMLAB)/wheels \
		$(shell grep -E '^onedl-mmcv==' constraints-openmmlab.txt)
	@$(OPENMMLAB)/bin/python -m pip --quiet --quiet --disable-pip-version-check install \
		--constraint constraints-openmmlab.txt --find-links $(OPENMMLAB)/wheels \
		--editable "plugins/openmmlab[det]"
	@touch $@

$(OPS)/made: $(OPENMMLAB)/made $(MMCV_WHEEL)
	$(OVER) $(OPS) $(OPENMMLAB)
	@$(OPS)/bin/python -m pip --quiet --quiet --disable-pip-version-check install --no-deps --no-index \
		--ignore-installed $(MMCV_WHEEL)
	@touch $@

lint: $(STAMP)
	@$(BIN)/ruff check $(CHECKED)
	@$(BIN)/ruff format --check $(CHECKED)
	@$(BIN)/mypy $(TYPED)
	@$(BIN)/codespell

format: $(STAMP)
	@$(BIN)/ruff check --fix $(CHECKED)
	@$(BIN)/ruff format $(CHECKED)

ci: lint test test-reference test-openmmlab

clean:
	rm -rf .venv $(OPENMMLAB) $(OPS) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist *.egg-info plugins/*/*.egg-info
