# headrace: what a developer and CI run. `make demo ARGS="--keep"` passes ARGS on.
PYTHON ?= $(firstword $(foreach p,python3.11 python3.12 python3,$(if $(shell command -v $(p)),$(p))))
BIN := .venv/bin
ARGS ?=
unexport PYTHONDONTWRITEBYTECODE  # torch's modules alone take 5 CPU seconds to compile: once, not in each process
UV_VERSION := 0.13.9
define SUITABLE
{ test -n "$(PYTHON)" && "$(PYTHON)" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; } \
  || { echo "Headrace needs Python 3.11 or 3.12 (found: $(or $(PYTHON),none)); install one, or name it: make PYTHON=/path/to/python3.12" >&2; exit 1; }
endef

.PHONY: install demo check format test bench-train bench-streams bench-updates bench-state bench-continual fuzz crash lock clean help

help:  ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 22

install: .venv/.installed  ## what is missing, from the lock

.venv/.installed: requirements.lock pyproject.toml
	@test -x $(BIN)/python || { $(SUITABLE) && $(PYTHON) -m venv .venv; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

demo: install  ## the whole loop on real parts, live in the terminal
	@$(BIN)/headrace demo $(ARGS)

check: install  ## style, types, directions of import
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install  ## let ruff put the code in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: install  ## every test, the real broker and the real Triton included
	$(BIN)/pytest $(ARGS)

bench-train: install .headrace/rectools/.installed  ## training speed and accuracy beside RecTools
	@$(BIN)/python -m tests.bench.train --rectools .headrace/rectools/bin/python $(ARGS)

.headrace/rectools/.installed: tests/bench/peers/rectools.lock
	@test -x $(@D)/bin/python || { $(SUITABLE) && $(PYTHON) -m venv $(@D); }
	@$(BIN)/uv pip sync --quiet --python $(@D)/bin/python --require-hashes $<
	@touch $@

bench-streams: install .headrace/quix/.installed  ## the worker beside a bare loop, Quix Streams and Faust; latency; HTTP
	@$(BIN)/python -m tests.bench.streams --quix .headrace/quix/bin/python $(ARGS)

.headrace/quix/.installed: tests/bench/peers/quix.lock
	@test -x $(@D)/bin/python || { $(SUITABLE) && $(PYTHON) -m venv $(@D); }
	@$(BIN)/uv pip sync --quiet --python $(@D)/bin/python --require-hashes $<
	@touch $@

bench-updates: install  ## requests to Triton while generations and a version arrive: ARGS="--requests 50000"
	@$(BIN)/python -m tests.bench.updates $(ARGS)

bench-state: install  ## a million users back from the changelog and from the disk: ARGS="--users 50000 --report FILE"
	@$(BIN)/python -m tests.bench.state $(ARGS)

bench-continual: install  ## methods against forgetting: ARGS="--data FOLDER --report FILE --folds 2 --cases 2000 --seconds 200"
	@$(BIN)/python -m tests.bench.continual $(ARGS)

fuzz: install  ## a million malformed events, each decoded or rejected; the HTTP API against its own document
	@$(BIN)/python -m tests.fuzz $(ARGS)
	$(BIN)/pytest --hypothesis-profile=long --timeout=900 tests/property/test_http_document.py tests/property/test_http_fuzz.py

crash: install  ## kill everything at random and count: ARGS="--kills 100 --minutes 15 --seed 7 --report FILE"
	@$(BIN)/python -m tests.crash $(ARGS)

# A gigabyte for torch.compile, which nothing here calls.
NO_COMPILER := --no-emit-package triton
LOCK := uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --quiet

lock:  ## resolve the dependencies again: for developers, and for each image the same versions
	$(LOCK) --all-extras --group dev pyproject.toml --output-file requirements.lock
	$(LOCK) --constraint requirements.lock pyproject.toml --output-file deploy/worker.lock
	$(LOCK) --constraint requirements.lock --extra learn $(NO_COMPILER) pyproject.toml --output-file deploy/learner.lock
	$(LOCK) --constraint requirements.lock --group pyproject.toml:triton $(NO_COMPILER) --output-file deploy/triton.lock

clean:  ## everything that was built or recorded here
	rm -rf .venv .headrace .mypy_cache .ruff_cache .pytest_cache .hypothesis
