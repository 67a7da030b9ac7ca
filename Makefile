# Two commands do all: `make train` and `make test`. All set up .venv first.
#   make train ARGS='--env=atari/Pong --seed=1'
#   make demo     a first success in minutes
#   make check    lint and the quick tests, before a commit
#   make docs     pages of all modules, in build/docs
#   make setup PYTHON=/path/to/python3.10
PYTHON ?=
ARGS ?=
export PYTHON

venv := .venv
python := $(venv)/bin/python
stamp := $(venv)/.setup-done
checked := $(wildcard acme_hieros launchers benchmarks examples tests scripts \
  setup.py)

# One more than there are cores: some tests wait for processes that they started.
workers := $(shell expr `nproc` + 1)

# Tests that start no launcher and compile no whole agent.
quick := tests/test_config.py tests/test_process.py tests/environments \
  tests/commands tests/reports tests/scores tests/storage tests/models/cores \
  tests/models/ops $(patsubst %,tests/models/test_%.py,actor_critic \
    distributions encoders images imports optimizers spaces subgoals)

.PHONY: train demo test check docs setup asan lint format lock clean

train: setup
	$(python) launchers/run_hieros.py --env=atari/Krull $(ARGS)

demo: setup
	$(venv)/bin/hieros demo $(ARGS)

# A test that ends its worker (a timeout does) is tried once more, not for ever.
test: setup
	$(python) -m pytest -n $(workers) --maxprocesses=4 --dist=loadfile \
	  --no-loadscope-reorder --max-worker-restart=1 tests

# In some minutes; `make test` has the rest.
check: lint
	$(python) -m pytest -n $(workers) --maxprocesses=4 --dist=loadfile $(quick)

# Of docstrings; docs/*.md are read as they are.
docs: setup
	@JAX_PLATFORMS=cpu $(python) scripts/docs.py

setup: $(stamp)

native := $(wildcard acme_hieros/replay/native/*)

$(stamp): requirements/lock.txt setup.py scripts/setup.sh $(native)
	@sh scripts/setup.sh

# The native sampler under AddressSanitizer, in a build of its own.
asan: setup
	@sh scripts/asan.sh

lint: setup
	$(python) -m ruff format --check $(checked)
	$(python) -m ruff check $(checked)
	$(python) -m mypy

format: setup
	$(python) -m ruff format $(checked)
	$(python) -m ruff check --fix $(checked)

# Keeps the versions in the lock that still satisfy setup.py; needs uv. pip
# installs nothing whose hash is another.
# `make lock ARGS=--upgrade` moves what setup.py leaves free.
lock:
	uv pip compile --quiet --custom-compile-command 'make lock' \
	  --generate-hashes --python-version 3.10 --extra test \
	  $(ARGS) -o requirements/lock.txt setup.py requirements/tools.in

clean:
	rm -rf $(venv) build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache
	rm -f acme_hieros/replay/_native*.so
	find acme_hieros launchers benchmarks examples tests scripts -name __pycache__ \
	  -prune -exec rm -rf {} + 2>/dev/null || true
