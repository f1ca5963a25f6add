# The front door. `make` alone prints what there is.

PYTHON ?= python3
VENV   ?= .venv
PHOTOS ?=
ARGS   ?=

BIN    := $(VENV)/bin
PY     := $(BIN)/python
STAMPS := $(VENV)/stamps
BUILD  := $(PY) setup.py -q build_ext --inplace
C_FILES = $(shell find csrc tests/c -name '*.[ch]')

.DEFAULT_GOAL := help
.PHONY: help build debug test demo ctest asan tsan model bench lint format sdist wheel clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# One stamp for the environment and one for each extra; all are renewed when the metadata changes.
$(STAMPS)/venv:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 10) and "fastpool needs Python 3.10 or newer, $(PYTHON) is %d.%d" % v[:2])'
	$(PYTHON) -m venv $(VENV)
	@mkdir -p $(@D) && touch $@

$(STAMPS)/tools: $(STAMPS)/venv pyproject.toml
	$(PY) -m pip install -q --disable-pip-version-check 'setuptools>=77' 'cython>=3.1'
	@touch $@

$(STAMPS)/base: $(STAMPS)/tools setup.py
	$(PY) -m pip install -q --disable-pip-version-check --no-build-isolation -e .
	@touch $@

$(STAMPS)/extra-%: $(STAMPS)/base
	$(PY) -m pip install -q --disable-pip-version-check --no-build-isolation -e '.[$*]'
	@touch $@

build: $(STAMPS)/base  ## build in place; only what changed
	$(BUILD)

debug: $(STAMPS)/base  ## build in place with assertions and debug symbols
	FASTPOOL_DEBUG=1 $(BUILD)

test: $(STAMPS)/extra-test ctest  ## environment, build, C tests, pytest (ARGS='-k map')
	$(BUILD)
	$(PY) -m pytest $(ARGS)

demo: $(STAMPS)/extra-demo  ## examples/demo.py on PHOTOS=folder
	$(BUILD)
	$(PY) examples/demo.py $(if $(PHOTOS),'$(PHOTOS)')

ctest:  ## the C core's own tests
	$(MAKE) -C tests/c run

asan:  ## the C tests under AddressSanitizer and UBSan
	$(MAKE) -C tests/c asan

tsan:  ## the C tests under ThreadSanitizer
	$(MAKE) -C tests/c tsan

model:  ## the lock-free protocols under the model checker spin (ARGS=park)
	$(PYTHON) tests/model/run.py $(ARGS)

bench: $(STAMPS)/extra-bench  ## this machine against the standard library (ARGS=--quick)
	$(BUILD)
	$(PY) benchmarks/bench_dispatch.py $(ARGS)
	$(PY) benchmarks/bench_data.py $(ARGS)

lint: $(STAMPS)/extra-dev  ## ruff, mypy, clang-format: look, change nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run -Werror $(C_FILES)

format: $(STAMPS)/extra-dev  ## let ruff and clang-format rewrite the sources
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(C_FILES)

sdist: $(STAMPS)/extra-dev  ## dist/*.tar.gz
	$(PY) -m build --sdist

wheel: $(STAMPS)/extra-dev  ## dist/*.whl, built from the sdist
	$(PY) -m build

clean:  ## remove what was built, not the environment
	rm -rf build dist src/*.egg-info src/fastpool/_core/*.so
	$(MAKE) -C tests/c clean
	rm -rf tests/model/build
