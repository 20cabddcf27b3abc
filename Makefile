# What people and CI run. Everything lands in .venv/ and .demo/, nothing outside this folder but package caches.

# Which Airflow: 3.3 (the newest) or 2.11 (the oldest); 3.0, 3.1 and 3.2 for the demo.
AIRFLOW ?= 3.3
AIRFLOW_VERSION_2.11 := 2.11.2
AIRFLOW_VERSION_3.0  := 3.0.6
AIRFLOW_VERSION_3.1  := 3.1.8
AIRFLOW_VERSION_3.2  := 3.2.2
AIRFLOW_VERSION_3.3  := 3.3.2
NEWEST := 3.3
# On these all tests run, and they need a PostgreSQL server.
TESTED := 2.11 3.3
# Releases from after that day break these: what they ask for has no upper bound.
RESOLVED_UNTIL_3.0 := 2025-10-01
RESOLVED_UNTIL_3.1 := 2026-04-01
RESOLVED_UNTIL_3.2 := 2026-08-01

VENV   := .venv/$(AIRFLOW)
BIN    := $(VENV)/bin
NEWBIN := .venv/$(NEWEST)/bin
UV     := .venv/tools/bin/uv
export UV_PYTHON_DOWNLOADS := never
# As pip does: a proxy that looks into TLS has its own certificate, which the system knows.
export UV_SYSTEM_CERTS ?= 1

.DEFAULT_GOAL := help
.PHONY: help demo test smoke bench live mutants lint format constraints docs-diagram build clean

help:  ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST)

demo: $(VENV)/.installed  ## See a real Airflow hold a task until a real ingestion is done
	@$(BIN)/python scripts/demo.py $(ARGS)

smoke:  ## Run the demo's two DAG runs on each Airflow between the oldest and the newest
	@for series in 3.0 3.1 3.2; do $(MAKE) --no-print-directory demo AIRFLOW=$$series ARGS=--quick || exit 1; done

# The branch coverage of the package, of a run of all tests only; its limit is in pyproject.toml.
COVERAGE = --cov --cov-report=json:.venv/coverage-$(AIRFLOW).json -p tests.support.coverage_report

# Three at once on two cores: the tests of real processes mostly wait.
test: $(VENV)/.installed  ## Run all tests, and measure their coverage; AIRFLOW=2.11 for the oldest Airflow
	@COVERAGE_FILE=.venv/coverage-$(AIRFLOW) \
		$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder $(if $(ARGS),$(ARGS),$(COVERAGE))

bench: .venv/$(NEWEST)/.installed  ## Print what many waits cost, and what the local Polaris can bear
	@$(NEWBIN)/python -m benchmarks.waits
	@$(NEWBIN)/python -m benchmarks.local_polaris

live: .venv/$(NEWEST)/.installed  ## Check a real project, reading only; skipped without POLARIS_URL, …_PROJECT_ID, …_API_KEY
	@$(NEWBIN)/python -m scripts.live

mutants: .venv/$(NEWEST)/.installed  ## Break the deciding and the retry rules in a thousand ways: do the tests notice?
	@$(UV) pip install --quiet --python $(NEWBIN)/python --constraints constraints/airflow-$(NEWEST).txt --group mutants
	@rm -rf mutants && ($(NEWBIN)/mutmut run >.venv/mutants.log 2>&1 || true)
	@$(NEWBIN)/python scripts/mutants.py

lint: .venv/$(NEWEST)/.installed  ## Check style and types
	$(NEWBIN)/ruff check .
	$(NEWBIN)/ruff format --check .
	$(NEWBIN)/mypy

format: .venv/$(NEWEST)/.installed  ## Put style right where a tool can
	$(NEWBIN)/ruff check --fix .
	$(NEWBIN)/ruff format .

constraints: $(UV)  ## Resolve the tested sets anew: names and versions only
	@for series in 2.11 3.0 3.1 3.2 3.3; do AIRFLOW=$$series scripts/constraints.sh $(UV) $$series; done

docs-diagram: .venv/$(NEWEST)/.installed  ## Draw docs/house.svg from the imports of the package
	@$(NEWBIN)/python -m scripts.diagram

build: $(UV)  ## Build the wheel and the sdist into dist/
	$(UV) build --quiet

clean:  ## Remove all that was set up
	rm -rf .venv .demo dist mutants

$(UV):
	@python="$$(scripts/python.sh $(NEWEST))" && echo "Setting up tools with $$python" && "$$python" -m venv .venv/tools
	@.venv/tools/bin/python -m pip install --quiet --disable-pip-version-check uv

.venv/%/.installed: pyproject.toml constraints/airflow-%.txt | $(UV)
	@python="$$(scripts/python.sh $*)" && echo "Setting up Airflow $(AIRFLOW_VERSION_$*) with $$python" \
		&& "$$python" -m venv --clear .venv/$*
	@$(UV) pip install --quiet --python .venv/$*/bin/python --constraints constraints/airflow-$*.txt \
		"apache-airflow==$(AIRFLOW_VERSION_$*)" --editable ".[local]" --group test --group lint \
		$(if $(filter $*,$(TESTED)),--group system)
	@touch $@
