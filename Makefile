# Everything a user or CI runs. `make demo` and `make test` need nothing but Python 3.11 or 3.12 and this checkout.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
BUNDLE ?= brats_resnet50
# Processes that run tests, a file each; slow ones often wait, for servers, signals and kills.
JOBS ?= 2
SLOW_JOBS ?= 3

.PHONY: help setup demo test test-slow test-gpu test-label lint docs new-bundle bench clean

help:
	@echo "make demo       set up, make demo data; train, evaluate, predict and export brats_resnet50 on it"
	@echo "make demo BUNDLE=nuclei_vgg3d      the same for another bundle"
	@echo "make test       set up, run the tests (about 4 minutes)"
	@echo "make test-slow  kills, several processes, whole demos (about 20 minutes)"
	@echo "make test-gpu   every bundle on a GPU; ends with a table to send us"
	@echo "make test-label the bundles in MONAI Label, which gets an environment of its own (.venv-label)"
	@echo "make docs       build the pages as a site in site/; a broken link or name stops it"
	@echo "make new-bundle NAME=my_bundle     a small working bundle of your own, in OUTPUT (my_bundle/)"
	@echo "make setup lint bench clean"

setup: $(VENV)/.installed

# torch comes first and by exact version: another package asking for plain torch would bring CUDA's gigabytes along.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev,dask,dicom,docs,export,fast,openvino]"
	@touch $@

demo: setup
	$(BIN)/python -m monai_ext demo $(BUNDLE)
	@echo
	@echo "MLflow store: runs/mlflow.db"
	@echo "  table:  $(BIN)/python -m monai_ext compare"
	@echo "  pages:  $(BIN)/mlflow ui --backend-store-uri sqlite:///runs/mlflow.db"

# A process a core: more threads would wait for each other. Compiled modules are kept, as tests start many processes.
test test-slow: export OMP_NUM_THREADS = 1
test test-slow: export PYTHONDONTWRITEBYTECODE =
test: setup
	$(BIN)/python -m pytest -m "not slow and not gpu" --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder

test-slow: setup
	$(BIN)/python -m pytest -m "slow and not gpu" --numprocesses $(SLOW_JOBS) --dist loadfile --no-loadscope-reorder --timeout 1500

test-gpu: setup
	$(BIN)/python -m pytest -m gpu --timeout 1800 tests/gpu

# MONAI Label asks for much that its tasks don't need: what they import is enough here.
test-label:
	test -d .venv-label || $(PYTHON) -m venv .venv-label
	.venv-label/bin/python -m pip install --quiet --constraint constraints.txt torch==2.13.0 torchvision
	.venv-label/bin/python -m pip install --quiet --constraint constraints.txt --editable ".[dev,dicom]"
	.venv-label/bin/python -m pip install --quiet --no-deps monailabel==0.8.5
	.venv-label/bin/python -m pip install --quiet cachetools expiring_dict pydantic-settings pynrrd setuptools shapely
	.venv-label/bin/python -m pytest tests/elsewhere

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python .ci/format_configs.py --check
	$(BIN)/python .ci/settings_tables.py --check

docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict
	@echo "open site/index.html"

new-bundle: setup
	$(if $(NAME),,$(error which name? make new-bundle NAME=my_bundle))
	$(BIN)/python -m monai_ext new-bundle "$(NAME)" --output "$(or $(OUTPUT),$(NAME))"

bench: setup
	$(BIN)/python benchmarks/run.py

clean:
	rm -rf $(VENV) build site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
