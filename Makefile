# The front door. `make` alone prints what there is.

PYTHON ?= python3
VENV   ?= .venv
PHOTOS ?=
BASE   ?=
ARGS   ?=
SEED   ?=
SECONDS ?= 600
MINUTES ?= 60
PYTHONS ?=

BIN    := $(VENV)/bin
PY     := $(BIN)/python
STAMPS := $(VENV)/stamps
BUILD  := $(PY) setup.py -q build_ext --inplace
# The build with crash points has a place of its own; setup.py adds -crash to where extensions go.
CRASH  := build/package-crash
BUILD_CRASH := FASTPOOL_CRASH_POINTS=1 $(PY) setup.py -q build_py --build-lib $(CRASH) \
	build_ext --build-lib $(CRASH:-crash=) --build-temp build/temp
# So has the one that asks no more of the system than POSIX has.
PORTABLE := build/package-portable
BUILD_PORTABLE := FASTPOOL_PORTABLE=1 $(PY) setup.py -q build_py --build-lib $(PORTABLE) \
	build_ext --build-lib $(PORTABLE:-portable=) --build-temp build/temp
C_FILES = $(shell find csrc tests/c -name '*.[ch]')

.DEFAULT_GOAL := help
.PHONY: help build debug test reference kill threads interrupts soak refleaks crash syscalls model demo portable ctest asan tsan bench goals jobs bench-compare instructions profile faults lint lint-workflows format sdist wheel wheels pure-wheel reproducible clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# One stamp for the environment and one for each extra; all are renewed when the metadata changes.
$(STAMPS)/venv:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 10) and "fastpool needs Python 3.10 or newer, $(PYTHON) is %d.%d" % v[:2])'
	$(PYTHON) -m venv $(VENV)
	@mkdir -p $(@D) && touch $@

$(STAMPS)/tools: $(STAMPS)/venv pyproject.toml
	$(PY) -m pip install -q --disable-pip-version-check 'setuptools>=77' 'cython>=3.3'
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
ifeq ($(ARGS),)  # two programs share the files: each takes half of the time, and of the memory that it forks
	$(PY) -m pytest -n 2 --dist loadfile
else
	$(PY) -m pytest $(ARGS)
endif

reference: $(STAMPS)/extra-test  ## the specification of Pool on multiprocessing itself: it has to be right
	$(BUILD)
	$(PY) -m pytest -n 2 --dist loadfile --impl multiprocessing -m 'reference and not slow' $(ARGS)

kill: $(STAMPS)/extra-test  ## kill workers at random, check every task (SECONDS=600 SEED=1234)
	$(BUILD)
	$(PY) tests/failure/kill_fuzz.py --seconds $(SECONDS) $(if $(SEED),--seed $(SEED)) $(ARGS)

threads: $(STAMPS)/extra-test  ## eight threads at once, every value checked (SECONDS=600 SEED=1234)
	$(BUILD)
	$(PY) tests/failure/thread_fuzz.py --seconds $(SECONDS) $(if $(SEED),--seed $(SEED)) $(ARGS)

interrupts: $(STAMPS)/extra-test  ## a signal handler raises anywhere, the pool goes on (SECONDS=600 SEED=1234)
	$(BUILD)
	$(PY) tests/failure/interrupt_fuzz.py --seconds $(SECONDS) $(if $(SEED),--seed $(SEED)) $(ARGS)

refleaks: $(STAMPS)/extra-test  ## each feature again and again: nothing is left (PYTHON=python3-dbg)
	$(BUILD)
	$(PY) tests/soak/ref_leaks.py $(ARGS)

soak: $(STAMPS)/extra-soak  ## an hour of mixed load; nothing may grow (MINUTES=60)
	$(BUILD)
	$(PY) tests/soak/soak.py --minutes $(MINUTES) $(if $(SEED),--seed $(SEED)) $(ARGS)

demo: $(STAMPS)/extra-demo  ## examples/demo.py on PHOTOS=folder
	$(BUILD)
	$(PY) examples/demo.py $(if $(PHOTOS),'$(PHOTOS)')

ctest:  ## the C core's own tests
	$(MAKE) -C tests/c run

asan:  ## the C tests under AddressSanitizer and UBSan
	$(MAKE) -C tests/c asan

tsan:  ## the C tests under ThreadSanitizer
	$(MAKE) -C tests/c tsan

portable: $(STAMPS)/extra-test  ## the build that asks POSIX only: C tests, pytest (ARGS='-k map')
	$(MAKE) -C tests/c run FP_PORTABLE=1
	$(BUILD_PORTABLE)
	PYTHONPATH="$(CURDIR)/$(PORTABLE)" $(PY) -m pytest $(ARGS)

model:  ## the lock-free protocols under the model checker spin (ARGS=park)
	$(PYTHON) tests/model/run.py $(ARGS)

crash: $(STAMPS)/extra-test  ## kill each process of a pool at each named point (ARGS='--sample 15')
	$(BUILD_CRASH)
	PYTHONPATH="$(CURDIR)/$(CRASH)" $(PY) -m pytest tests/crash/test_points.py $(ARGS)

syscalls: $(STAMPS)/extra-test  ## have each system call of a pool fail, with strace (ARGS='--sample 15')
	$(BUILD)
	$(PY) -m pytest tests/crash/test_syscalls.py $(ARGS)

bench: $(STAMPS)/extra-bench  ## this machine's process pools, compared (ARGS='--quick --plot a.html')
	$(BUILD)
	-$(MAKE) -s -C benchmarks/c
	$(PY) -m fastpool bench --limits benchmarks/c/build/limits $(ARGS)

goals: $(STAMPS)/extra-bench  ## what fastpool is meant to reach, and does (ARGS=--quick)
	$(BUILD)
	$(PY) benchmarks/bench_dispatch.py $(ARGS)
	$(PY) benchmarks/bench_data.py $(ARGS)
	$(PY) benchmarks/bench_executor.py $(ARGS)

jobs: $(STAMPS)/extra-jobs  ## whole jobs against other pools (ARGS='--quick --jobs life grid')
	$(BUILD)
	$(PY) benchmarks/jobs $(ARGS)

bench-compare: $(STAMPS)/extra-bench  ## this tree's speed against another revision's (BASE=main ARGS=--check)
	@test -n '$(BASE)' || { echo 'which revision? e.g. make bench-compare BASE=HEAD~1'; exit 2; }
	$(PY) benchmarks/compare.py '$(BASE)' $(ARGS)

instructions: $(STAMPS)/base  ## instructions of the hot paths, with valgrind (ARGS=--check, --write)
	$(BUILD)
	$(PY) benchmarks/instructions.py $(ARGS)

profile: $(STAMPS)/base  ## where the time of the hot paths goes, with perf (ARGS='--top 5')
	$(BUILD)
	$(PY) benchmarks/hot_profile.py $(ARGS)

faults: $(STAMPS)/extra-bench  ## what pools do when something goes wrong (ARGS='--pools fastpool loky')
	$(BUILD)
	$(PY) benchmarks/fault_matrix.py $(ARGS)

lint: $(STAMPS)/extra-dev  ## ruff, mypy, clang-format: look, change nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run -Werror $(C_FILES)

lint-workflows: $(STAMPS)/extra-workflows  ## actionlint, zizmor, shellcheck: what GitHub runs, and .ci/run
	@command -v shellcheck >/dev/null || { echo 'shellcheck is missing, e.g. apt-get install shellcheck'; exit 2; }
	$(BIN)/actionlint
	$(BIN)/zizmor --offline --quiet .
	shellcheck .ci/run

format: $(STAMPS)/extra-dev  ## let ruff and clang-format rewrite the sources
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(C_FILES)

sdist: $(STAMPS)/extra-dev  ## dist/*.tar.gz
	rm -f dist/*.tar.gz && $(PY) -m build --sdist
	$(PY) wheels/check_dist.py dist/*.tar.gz

wheel: $(STAMPS)/extra-dev  ## dist/*.whl, built from the sdist
	rm -rf dist && $(PY) -m build
	$(PY) wheels/check_dist.py dist/*.tar.gz dist/*.whl

wheels: $(STAMPS)/extra-wheels  ## dist/*.whl for every CPython here, with zig; each tried (ARGS='--tests brief' PYTHONS=...)
	$(PY) wheels/build.py $(ARGS) $(PYTHONS)

pure-wheel: sdist  ## dist/*-none-win*.whl: for Windows, with the standard library's pools; tried here
	$(PY) wheels/pure.py --no-build-isolation

reproducible: $(STAMPS)/extra-dev  ## the same, built twice in different surroundings: the same bytes?
	rm -rf build/twice && $(PY) wheels/reproducible.py build/twice
	$(PY) wheels/check_dist.py build/twice/*

clean:  ## remove what was built, not the environment
	rm -rf build dist src/*.egg-info src/fastpool/_core/*.so
	$(MAKE) -C tests/c clean
	$(MAKE) -C benchmarks/c clean
	rm -rf tests/model/build
