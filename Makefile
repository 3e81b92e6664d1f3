# Everything a person runs. Needs Python 3.11 or later with venv, and make; nothing else.
PYTHON ?= python3
BIN := .venv/bin

# What .env says of a setting. None is exported: the environment would go before .env, which the
# service reads for itself.
said = $(shell sed -n 's/^ *RECSVC_$(1) *= *//p' .env 2>/dev/null | tail -n 1 | cut -d ' ' -f 1 | tr -d \"\')
ifndef RECSVC_DATA_DIR
RECSVC_DATA_DIR := $(or $(call said,DATA_DIR),data)
endif

# The caller's own log (JSON lines or Parquet) and catalogue; without them, generated ones.
LOG ?= $(RECSVC_DATA_DIR)/demo/log.jsonl
CATALOGUE ?= $(if $(filter $(RECSVC_DATA_DIR)/demo/log.jsonl,$(LOG)),$(RECSVC_DATA_DIR)/demo/catalogue.jsonl)
ARTIFACT = $(RECSVC_DATA_DIR)/artifacts/$(shell printf '%s' '$(LOG) $(CATALOGUE)' | cksum | cut -d ' ' -f 1)

# Hashes instead of trust in an index, and no index named: it is whoever installs that has one.
LOCK = $(BIN)/pip-compile --quiet --generate-hashes --strip-extras --allow-unsafe --no-header \
  --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-emit-options

.PHONY: help demo experiment test torture bench lint check format lock sbom audit clean

help: ## List what can be made.
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: $(ARTIFACT)/manifest.json ## Train a table and serve it on 127.0.0.1:8000 (LOG=, CATALOGUE=: from your own log).
	@$(BIN)/recsvc publish --force $(ARTIFACT)
	@RECSVC_LOG_LEVEL=$${RECSVC_LOG_LEVEL:-$(or $(call said,LOG_LEVEL),warning)} exec $(BIN)/recsvc serve

EXPERIMENT ?= --tracks 20000 --listeners 12000 --cold-sessions 5 --round-listeners 1500
experiment: .venv/demo ## Try every policy on simulated listeners, and report (EXPERIMENT=options).
	$(BIN)/precompute experiment --output $(RECSVC_DATA_DIR)/experiment $(EXPERIMENT)

test: .venv/dev ## Run all tests.
	$(BIN)/pytest

BENCH ?=
torture: .venv/dev ## Do to the service what networks, disks and people do (under 30 minutes).
	$(BIN)/pytest -m torture

bench: .venv/dev ## Measure how fast the service is, and what moved since the last release (BENCH=options).
	$(BIN)/python -m tests.load.bench --output $(RECSVC_DATA_DIR)/bench $(BENCH)

lint: .venv/dev ## Check format, style, types and the direction of imports.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test ## Everything that CI checks.

format: .venv/dev ## Put the code into shape.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: .venv/supply ## Choose the versions of the serving install anew, and lock them by hash.
	$(LOCK) --output-file requirements/serve.txt pyproject.toml
	$(LOCK) --only-build-deps --build-deps-for wheel --output-file requirements/build.txt pyproject.toml

sbom: .venv/supply ## Install from the lock, and list what is in it (CycloneDX): data/sbom.json.
	@mkdir -p $(RECSVC_DATA_DIR)
	$(PYTHON) -m venv --clear $(RECSVC_DATA_DIR)/serving
	$(RECSVC_DATA_DIR)/serving/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/serve.txt
	$(BIN)/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible \
	  --output-file $(RECSVC_DATA_DIR)/sbom.json $(RECSVC_DATA_DIR)/serving/bin/python

audit: .venv/supply ## Ask whether a locked version has a known vulnerability (needs a network).
	@found=$$(timeout 120 $(BIN)/pip-audit --strict --disable-pip --require-hashes -r requirements/serve.txt --timeout 15 2>&1); \
	code=$$?; \
	case "$$code:$$found" in \
	  0:*) echo "$$found" ;; \
	  *"Found "*"known vulnerabilit"*) echo "$$found"; exit 1 ;; \
	  *) echo "$$found" | tail -n 1; echo "audit: not checked: what is known of these versions cannot be asked for from here" ;; \
	esac

clean: ## Remove what was installed, trained and stored.
	rm -rf .venv $(RECSVC_DATA_DIR)

$(ARTIFACT)/manifest.json: .venv/demo $(LOG) $(CATALOGUE)
	$(BIN)/precompute train --log $(LOG) $(if $(CATALOGUE),--catalogue $(CATALOGUE)) --output $(ARTIFACT)

$(RECSVC_DATA_DIR)/demo/catalogue.jsonl: $(RECSVC_DATA_DIR)/demo/log.jsonl ;

$(RECSVC_DATA_DIR)/demo/log.jsonl: | .venv/demo
	$(BIN)/precompute demo-log --output $(RECSVC_DATA_DIR)/demo

# An install is repeated when what it installs has changed.
INSTALLED = pyproject.toml hatch_build.py $(wildcard src/recsvc/recommenders/*.c)

.venv/demo: $(INSTALLED) | .venv/bin/python
	@echo "installing (once; some minutes on a slow line)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[precompute]'
	@touch $@

.venv/dev: $(INSTALLED) | .venv/bin/python
	@echo "installing (once; some minutes on a slow line)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[precompute,dev]'
	@touch $@

.venv/supply: $(INSTALLED) | .venv/bin/python
	@echo "installing (once)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[supply]'
	@touch $@

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed")'
	$(PYTHON) -m venv .venv
