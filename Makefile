# Everything a user or CI runs. `make demo` and `make test` need nothing but Python 3.11 or 3.12 and this checkout.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO_DATA := data/demo/brats_resnet50
CONFIGS := bundles/brats_resnet50/configs

.PHONY: help setup demo test test-slow lint bench clean

help:
	@echo "make demo       set up, make demo data, train, validate and report brats_resnet50 on it"
	@echo "make test       set up, run the tests (under 10 minutes)"
	@echo "make test-slow  kills, several processes, whole demos (under 30 minutes)"
	@echo "make setup lint bench clean"

setup: $(VENV)/.installed

# torch comes first and by exact version: another package asking for plain torch would bring CUDA's gigabytes along.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev,export,fast]"
	@touch $@

$(DEMO_DATA): | setup
	$(BIN)/python -m monai_ext demo-data brats_resnet50 --output $(DEMO_DATA)

demo: setup $(DEMO_DATA)
	$(BIN)/python -m monai.bundle run \
		--config_file "['$(CONFIGS)/train.json','$(CONFIGS)/demo.json']" --dataset_dir $(DEMO_DATA)
	@echo
	@echo "MLflow store: runs/mlflow.db"
	@echo "  table:  $(BIN)/python -m monai_ext compare"
	@echo "  pages:  $(BIN)/mlflow ui --backend-store-uri sqlite:///runs/mlflow.db"

test: setup
	$(BIN)/python -m pytest -m "not slow"

test-slow: setup
	$(BIN)/python -m pytest -m slow --timeout 1500

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup
	$(BIN)/python benchmarks/run.py

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
