# make demo   wrap a real server, stop it with a request in flight, show the timeline; rehearse the stops of a server and of a worker with and without gracewrap
# make test   lint, types, tests
# make dist   gracewrap as one file for any image, dist/gracewrap-linux-x86_64 (docs/install.md); with ARCH=aarch64 the one for that
# make bench  gracewrap beside tini, dumb-init, catatonit and supervisord (Debian packages)
# Needs python3 (3.11 or newer) with venv, and make; the rest is set up in .venv.

PYTHON ?= python3
VENV ?= .venv
ARCH ?= x86_64
BIN := $(VENV)/bin
PYTEST ?=

.PHONY: demo test lint bench dist docs clean

demo: $(VENV)/demo
	@$(BIN)/python examples/demo.py

test: lint
	$(BIN)/python -m pytest $(PYTEST)

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/ready
	$(BIN)/python -m benchmarks

dist: $(VENV)/ready $(if $(filter-out x86_64,$(ARCH)),$(VENV)/cross)
	@$(BIN)/python launcher/single_file dist/gracewrap-linux-$(ARCH) $(ARCH)

docs: $(VENV)/ready
	$(BIN)/python docs/generate.py

# What the demo needs: gracewrap with its drill, without what tests and lint need.
$(VENV)/demo: pyproject.toml
	@if [ ! -e $(VENV)/ready ]; then \
	  $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "gracewrap needs Python 3.11 or newer; write make PYTHON=python3.12")' \
	  && $(PYTHON) -m venv $(VENV) && $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[drill]'; fi
	@touch $@

$(VENV)/ready: pyproject.toml hatch_build.py $(wildcard launcher/*.[ch])
	@echo "setting up $(VENV): this takes about half a minute, once"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "gracewrap needs Python 3.11 or newer; write make PYTHON=python3.12")'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable . --group dev
	@touch $@

# Zig's compiler, for another architecture.
$(VENV)/cross: $(VENV)/ready
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --group cross
	@touch $@

clean:
	rm -rf $(VENV) dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
