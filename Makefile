# Two commands do all the set-up: `make demo` and `make test`. Each builds .venv by itself.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install -q --no-build-isolation -c constraints.txt

.PHONY: demo up test test-compose bundle check-python clean

demo: $(VENV)/.service
	$(BIN)/python -m service.demo

up: $(VENV)/.service
	$(BIN)/radfuse up

test: $(VENV)/.all
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not compose"

test-compose: $(VENV)/.all
	$(BIN)/python -m pytest -m compose tests/compose

bundle: $(VENV)/.all
	$(BIN)/radfuse-train bundle training/configs/phantom-ct.toml models/phantom-ct

check-python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
	  { echo "Radfuse needs Python 3.11 (PyRadiomics 3.0.1 does not build on later ones); try: make PYTHON=/path/to/python3.11 ..."; exit 1; }
	@$(PYTHON) -c 'import os, sysconfig, sys; sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' || \
	  { echo "Python's C headers are missing; on Debian or Ubuntu: apt-get install python3-dev"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' || { echo "Python's venv module is missing; on Debian or Ubuntu: apt-get install python3-venv"; exit 1; }

# PyRadiomics 3.0.1 has no wheel for Python 3.11 and its build needs NumPy and an older setuptools already there.
$(VENV)/.service: pyproject.toml constraints.txt | check-python
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing the service into $(VENV) ..."
	@$(BIN)/python -m pip --disable-pip-version-check install -q -c constraints.txt numpy setuptools wheel versioneer
	@$(PIP) pyradiomics
	@$(PIP) -e ".[worker]"
	@echo "Compiling the radiomics kernels ..."
	@$(BIN)/python -c "from service.features.engine.warm import warm; warm()"
	@touch $@

$(VENV)/.all: $(VENV)/.service
	@echo "Installing training and test dependencies into $(VENV) ..."
	@$(PIP) -e ".[worker,training,test]"
	@touch $@

clean:
	rm -rf $(VENV) .radfuse .cache
