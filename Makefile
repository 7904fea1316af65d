SHELL := /bin/bash
PYTHON ?= python3
VENV ?= .venv
export PATH := $(abspath $(VENV))/bin:$(PATH)
export MLFLOW_DISABLE_TELEMETRY := true
export NO_ALBUMENTATIONS_UPDATE := 1
export DVC_NO_ANALYTICS := 1
export ORT_DISABLE_TELEMETRY := 1
export NO_MKDOCS_2_WARNING := 1
N ?= 200
WORKERS ?= 2
CONTAINER_TESTS ?= tests/containers
FLOOR ?= 75
EXTRAS ?= all
# A folder that `make wheels` filled: installation takes everything from there and asks no index.
WHEELS ?=
ifneq ($(WHEELS),)
$(if $(wildcard $(WHEELS)/*.whl),,$(error no wheels in WHEELS=$(WHEELS): on a machine with internet, make wheels fills wheels/))
export PIP_NO_INDEX := 1
export PIP_FIND_LINKS := $(abspath $(WHEELS))
endif

.DEFAULT_GOAL := help
.PHONY: help setup wheels demo models results study quick test test-containers test-ranks test-gpu kubeflow-demo lint chaos races faults benchmarks serving picture docs coverage infrastructure kind kind-kubeflow clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.all ## create .venv with everything the pipeline needs, at the locked versions

# Python's own pip may be years old; a new one chooses the versions in a third of the time.
$(VENV)/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 15))' \
	  || { echo "Python 3.11 to 3.14 is needed; name one with: make PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$@ install --quiet --disable-pip-version-check --upgrade pip

# What is imported, Python compiles and keeps. Where it must not, all is compiled here but packages' own tests, which may be
# no Python of this version.
$(VENV)/.%: pyproject.toml constraints.txt setup.py hymunet/compiled_parts.py $(wildcard hymunet/ops/csrc/* hymunet/data/prepare/csrc/* hymunet/evaluation/csrc/*) | $(VENV)/bin/pip
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt -e '.[$*]'
	$(if $(PYTHONDONTWRITEBYTECODE),$(VENV)/bin/python -m compileall -qq -j 0 -x /tests/ $(VENV)/lib || true)
	touch $@

wheels: | $(VENV)/bin/pip ## what an installation needs, into wheels/, for a machine without internet: make setup WHEELS=wheels
	$(VENV)/bin/pip wheel --disable-pip-version-check -c constraints.txt -w wheels pip setuptools '.[$(EXTRAS)]'

# In a folder of its own, so that the checkout's params.yaml stays as it is and results carry a clean commit.
DEMO := build/demo
demo: $(VENV)/.all ## the whole pipeline on images that it draws itself, in build/demo: minutes on two CPU cores
	mkdir -p $(DEMO)
	tar -cf - --exclude __pycache__ dvc.yaml params.yaml .dvcignore profiles components hymunet | tar -xf - -C $(DEMO)
	cd $(DEMO) && { [ -d .dvc ] || dvc init --no-scm --quiet; } && hymunet profile demo && dvc repro && hymunet summary
	@echo "all of it is in $(DEMO): try hymunet predict there, or look at reports/evaluation/report.html"

quick: $(VENV)/.dev ## a minute: the linter, and the tests of the rules that every change meets
	ruff check . && ruff format --check .
	OMP_NUM_THREADS=1 python -m pytest -q -n $(WORKERS) tests/unit/test_architecture.py tests/unit/test_front_door.py tests/unit/test_text.py \
	  tests/unit/test_params.py tests/unit/test_overrides.py tests/unit/test_evidence.py tests/unit/test_formats.py tests/unit/test_images.py \
	  tests/unit/test_losses.py tests/unit/test_metrics.py tests/unit/evaluation/test_measure.py tests/unit/training/test_learner.py \
	  -k "not (averaged_weights_score or agreement_with_monai or accumulation_is or of_its_preparation)"

test: $(VENV)/.dev ## every test that needs neither GPU nor containers, WORKERS=2 at a time; what this machine lacks is skipped by name
	OMP_NUM_THREADS=1 python -m pytest -m "not slow and not gpu and not containers" -n $(WORKERS) --dist loadfile --no-loadscope-reorder

test-containers: $(VENV)/.dev ## builds the images and runs the compiled Kubeflow pipeline in them, end to end
	python -m pytest -m containers $(CONTAINER_TESTS)

test-ranks: $(VENV)/.dev ## two ranks in the pipeline's image, killed once: the same bytes
	python -m pytest -m containers tests/containers/test_ranks.py

test-gpu: $(VENV)/.dev ## the tests that need an NVIDIA GPU
	python -m pytest -m gpu

kubeflow-demo: $(VENV)/.all ## the compiled pipeline in real containers, with stores of its own
	bash infra/docker/demo.sh

lint: $(VENV)/.dev ## ruff, mypy
	ruff check .
	ruff format --check .
	mypy -n $(WORKERS)

chaos: $(VENV)/.dev ## kill the training N times (N=200) and compare every byte with the uninterrupted run
	python -m tests.chaos.kill_training --kills $(N)

models: $(VENV)/.dev ## every model compiled, exported to ONNX, and learning four images by heart
	python -m pytest -m "slow and not gpu" tests/unit/models

results: $(VENV)/.dev ## tables and pictures of the studies in docs/results.md from the per-image scores that are kept, and docs/scale.md
	@for study in studies/*/; do \
	  if grep -qF "<!-- study $$(basename "$$study") " docs/results.md; then hymunet study tables "$$study" --into docs/results.md || exit 1; \
	  else echo "$$study: left as it is, docs/results.md has no block of it; its own tables: hymunet study tables $$study"; fi; done
	@python -m benchmarks.scale --into docs/scale.md > /dev/null

study: $(VENV)/.dev ## all models in small forms on 200 real images at 64², stopped twice and continued: up to an hour
	python -m pytest -m "slow or not slow" tests/integration/study

races: $(VENV)/.dev ## 16 promoters at once, 50 times each, and 100 kills of one, on SQLite and PostgreSQL
	python -m pytest -m slow tests/integration/registry/test_ledger_races.py

faults: $(VENV)/.dev ## the long fault matrices: downloads, archives, tracking server
	python -m pytest -m "slow and not gpu" --ignore tests/integration/study

benchmarks: $(VENV)/.dev ## every published speed figure, into benchmarks/results/
	python -m benchmarks.scan --json benchmarks/results/scan_cpu.json
	python -m benchmarks.data --json benchmarks/results/data.json
	python -m benchmarks.training --json benchmarks/results/training.json
	python -m benchmarks.training_step --json benchmarks/results/training_step.json
	python -m benchmarks.metrics --json benchmarks/results/metrics.json
	python -m benchmarks.evaluation --json benchmarks/results/evaluation.json
	python -m benchmarks.onnx --json benchmarks/results/onnx_cpu.json

serving: $(VENV)/.dev ## the server under load for minutes, and 3,000 damaged files sent to it
	python -m pytest -m slow tests/integration/serving
	python -m benchmarks.serving --json benchmarks/results/serving.json

infrastructure: $(VENV)/.dev ## infra/ rendered, validated and, where Terraform is here, applied to an endpoint on this machine
	python -m pytest -m "slow or not slow" tests/unit/infra tests/integration/infra

kind: ## infra/kubernetes in a cluster of its own on this machine (docker, kind, kubectl): pods start, policies hold, a backup is made
	bash infra/kubernetes/kind.sh

kind-kubeflow: $(VENV)/.all ## the demo by Kubeflow Pipelines in a cluster of its own on this machine (docker, kind, kubectl)
	bash infra/kubernetes/kubeflow.sh

coverage: $(VENV)/.dev ## the share of lines and branches that tests/unit reaches; below FLOOR per cent it fails
	OMP_NUM_THREADS=1 python -m pytest -m "not slow and not gpu" -n $(WORKERS) --dist loadfile --no-loadscope-reorder \
	  --cov --cov-report=term:skip-covered --cov-report=html:build/coverage/html --cov-fail-under=$(FLOOR) tests/unit

docs: $(VENV)/.docs ## the documentation as a site, in build/site; a link that leads nowhere fails
	mkdocs build

picture: $(VENV)/.dev ## docs/images/architecture.svg from dvc.yaml and the code's own imports (needs Graphviz)
	python docs/draw_architecture.py

clean: ## remove outputs and caches, keep .venv, checkpoints (hymunet clean), the model registry and files of your own
	rm -rf data/raw data/prepared data/split artifacts/model \
	  reports/validation reports/training reports/evaluation reports/registration \
	  build/demo build/kubeflow build/pipeline.yaml build/site build/coverage build/lib build/temp.* build/bdist.* *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
