# The commands for people and CI. They write to .venv/, .demo/, dist/, mutants/ and site/, and to package caches.

# The Airflow of a command: 3.3 (the newest) or 2.11 (the oldest). The demo also runs on 3.0, 3.1 and 3.2.
AIRFLOW ?= 3.3
AIRFLOW_VERSION_2.11 := 2.11.2
AIRFLOW_VERSION_3.0  := 3.0.6
AIRFLOW_VERSION_3.1  := 3.1.8
AIRFLOW_VERSION_3.2  := 3.2.2
AIRFLOW_VERSION_3.3  := 3.3.2
NEWEST := 3.3
# All tests run on these series. tests/system needs a PostgreSQL server.
TESTED := 2.11 3.3
# Packages that were released after this day break these series, which have no upper bounds.
RESOLVED_UNTIL_3.0 := 2025-10-01
RESOLVED_UNTIL_3.1 := 2026-04-01
RESOLVED_UNTIL_3.2 := 2026-08-01

VENV   := .venv/$(AIRFLOW)
BIN    := $(VENV)/bin
NEWBIN := .venv/$(NEWEST)/bin
UV     := .venv/tools/bin/uv
export UV_PYTHON_DOWNLOADS := never
# Where Python writes no .pyc files, for example in a container, each process of Airflow would compile Airflow again.
export UV_COMPILE_BYTECODE := 1
# uv uses the certificates of the system, like pip: a proxy that inspects TLS has its own certificate.
export UV_SYSTEM_CERTS ?= 1

.DEFAULT_GOAL := help
.PHONY: help demo test lineage smoke bench scale live mutants conformance browser screenshots lint format constraints docs \
	docs-serve docs-diagram build release-check clean

help:  ## List the commands
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST)

demo: $(VENV)/.installed  ## Load real rows with a real Airflow, and refuse the same load
	@$(BIN)/python scripts/demo.py $(ARGS)

smoke:  ## Run the demo on Airflow 3.0, 3.1 and 3.2
	@for series in 3.0 3.1 3.2; do $(MAKE) --no-print-directory demo AIRFLOW=$$series ARGS=--quick || exit 1; done

# The branch coverage of the package, for a run of all tests only. pyproject.toml has its limit. The measurement takes a
# third of the time, so that only .ci/run and the workflow ask for it.
MEASURE_COVERAGE = --cov --cov-report=json:.venv/coverage-$(AIRFLOW).json -p tests.support.coverage_report

# Three processes on two cores: the tests of real Airflow processes mostly wait. With four, other tests time out.
test: $(VENV)/.installed  ## Run all tests; AIRFLOW=2.11: on the oldest Airflow; COVERAGE=1: with coverage
	@COVERAGE_FILE=.venv/coverage-$(AIRFLOW) \
		$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder $(if $(COVERAGE),$(MEASURE_COVERAGE)) $(ARGS)

# In an environment of its own: where OpenLineage is installed, its listener runs in every task of every other test, too.
LINEAGE_TESTS := tests/assets/test_openlineage.py tests/assets/test_example_lineage.py tests/assets/test_uris.py
lineage: .venv/lineage-$(AIRFLOW)/.installed  ## Run the tests that need OpenLineage; AIRFLOW=2.11: on the oldest Airflow
	@.venv/lineage-$(AIRFLOW)/bin/python -m pytest $(or $(ARGS),$(LINEAGE_TESTS))

bench: .venv/$(NEWEST)/.installed  ## Measure many waits and the local Polaris
	@$(NEWBIN)/python -m benchmarks.waits
	@$(NEWBIN)/python -m benchmarks.intervals
	@$(NEWBIN)/python -m benchmarks.watchers
	@$(NEWBIN)/python -m benchmarks.local_polaris
	@$(NEWBIN)/python -m benchmarks.files_and_queries

# The default is local. Celery has an environment of its own, so that no other command sees its packages.
EXECUTOR ?= local
SCALE := .venv/$(if $(filter celery,$(EXECUTOR)),celery,$(NEWEST))

scale: $(SCALE)/.installed  ## Kill triggerers while many tasks wait; ARGS=--quick: briefly; EXECUTOR=celery: kill workers
	@$(SCALE)/bin/python -m scale --executor $(EXECUTOR) $(ARGS)

live: .venv/$(NEWEST)/.installed  ## Check a real project; reads only; needs POLARIS_URL, …_PROJECT_ID and …_API_KEY
	@$(NEWBIN)/python -m scripts.live

# MUTANTS names the modules of which mutants are made, as patterns of mutmut; all of pyproject.toml without it.
mutants: .venv/$(NEWEST)/.installed  ## Check that the tests notice broken decisions and retry rules
	@$(UV) pip install --quiet --python $(NEWBIN)/python --constraints constraints/airflow-$(NEWEST).txt --group mutants
	@rm -rf mutants && ($(NEWBIN)/mutmut run $(MUTANTS) >.venv/mutants.log 2>&1 || true)
	@$(NEWBIN)/python scripts/mutants.py $(ARGS)

conformance: .venv/$(NEWEST)/.installed  ## Compare the local Polaris with the vendor's OpenAPI document: OPENAPI=FILE
	@test -f "$(OPENAPI)" || { echo "Name the vendor's OpenAPI document: make conformance OPENAPI=FILE" >&2; exit 2; }
	@$(UV) pip install --quiet --python $(NEWBIN)/python --constraints constraints/airflow-$(NEWEST).txt --group conformance
	@$(NEWBIN)/python -m conformance "$(OPENAPI)"

browser: $(VENV)/.installed  ## Run the tests in a browser; AIRFLOW=2.11: with the oldest Airflow
	@scripts/chromium.sh
	@$(UV) pip install --quiet --python $(BIN)/python --constraints constraints/airflow-$(AIRFLOW).txt --group browser
	@$(BIN)/python -m pytest -m browser $(or $(ARGS),tests/browser)

screenshots: .venv/$(NEWEST)/.installed  ## Take the pictures of README and docs, in docs/pictures/
	@scripts/chromium.sh
	@$(UV) pip install --quiet --python $(NEWBIN)/python --constraints constraints/airflow-$(NEWEST).txt --group browser
	@$(NEWBIN)/python -m scripts.screenshots

lint: .venv/$(NEWEST)/.installed  ## Check style, types and workflows
	$(NEWBIN)/ruff check .
	$(NEWBIN)/ruff format --check .
	$(NEWBIN)/mypy
# Not every machine has shellcheck. The workflows only call make.
	$(NEWBIN)/jactionlint --strict-exit --shellcheck= --pyflakes=
	$(NEWBIN)/zizmor --offline --pedantic --strict-collection --quiet .github

format: .venv/$(NEWEST)/.installed  ## Fix the style where a tool can
	$(NEWBIN)/ruff check --fix .
	$(NEWBIN)/ruff format .

constraints: $(UV)  ## Resolve the tested versions again
	@for series in 2.11 3.0 3.1 3.2 3.3; do AIRFLOW=$$series scripts/constraints.sh $(UV) $$series; done

docs: .venv/$(NEWEST)/.docs  ## Build the documentation site into site/, and check its links
	@NO_MKDOCS_2_WARNING=1 $(NEWBIN)/mkdocs build --quiet --clean
	@! grep -rlE '<(script|link|img)[^>]+(src|stylesheet[^>]+href)="?https?:' site --include='*.html' # nothing from another host
	@echo "The site is in site/. Open site/index.html"

docs-serve: .venv/$(NEWEST)/.docs  ## Show the documentation while it is written
	@NO_MKDOCS_2_WARNING=1 $(NEWBIN)/mkdocs serve

.venv/$(NEWEST)/.docs: .venv/$(NEWEST)/.installed
	@$(UV) pip install --quiet --python $(NEWBIN)/python --constraints constraints/airflow-$(NEWEST).txt --group docs
	@touch $@

docs-diagram: .venv/$(NEWEST)/.installed  ## Draw docs/pictures/house.svg from the imports of the package
	@$(NEWBIN)/python -m scripts.diagram

build: $(UV)  ## Build the wheel and the sdist into dist/
	$(UV) build --quiet

release-check: .venv/$(NEWEST)/.installed  ## Check the files of a release, and run example DAGs from the installed wheel
	@$(UV) pip install --quiet --python $(NEWBIN)/python --constraints constraints/airflow-$(NEWEST).txt --group release
	@$(NEWBIN)/python -m scripts.release_check $(foreach series,$(TESTED),$(series)=$(AIRFLOW_VERSION_$(series)))

.venv/celery/.installed: pyproject.toml constraints/airflow-$(NEWEST).txt | $(UV)
	@python="$$(scripts/python.sh $(NEWEST))" && echo "Setting up Celery with $$python" \
		&& "$$python" -m venv --clear .venv/celery
	@$(UV) pip install --quiet --python .venv/celery/bin/python --constraints constraints/airflow-$(NEWEST).txt \
		"apache-airflow==$(AIRFLOW_VERSION_$(NEWEST))" --editable ".[local]" --group test --group system --group celery
	@touch $@

clean:  ## Remove everything that the commands set up
	rm -rf .venv .demo dist mutants site

$(UV):
	@python="$$(scripts/python.sh $(NEWEST))" && echo "Setting up tools with $$python" && "$$python" -m venv .venv/tools
	@.venv/tools/bin/python -m pip install --quiet --disable-pip-version-check uv

.venv/%/.installed: pyproject.toml constraints/airflow-%.txt | $(UV)
	@python="$$(scripts/python.sh $*)" && echo "Setting up Airflow $(AIRFLOW_VERSION_$*) with $$python" \
		&& "$$python" -m venv --clear .venv/$*
	@$(UV) pip install --quiet --python .venv/$*/bin/python --constraints constraints/airflow-$*.txt \
		"apache-airflow==$(AIRFLOW_VERSION_$*)" --editable ".[local]" --group test \
		$(if $(filter $*,$(TESTED)),--group system) $(if $(filter $*,$(NEWEST)),--group lint)
	@touch $@

.venv/lineage-%/.installed: pyproject.toml constraints/airflow-%.txt | $(UV)
	@python="$$(scripts/python.sh $*)" && echo "Setting up Airflow $(AIRFLOW_VERSION_$*) and OpenLineage with $$python" \
		&& "$$python" -m venv --clear --without-pip .venv/lineage-$*
	@$(UV) pip install --quiet --python .venv/lineage-$*/bin/python --constraints constraints/airflow-$*.txt \
		"apache-airflow==$(AIRFLOW_VERSION_$*)" --editable ".[local]" --group test --group lineage
	@touch $@
