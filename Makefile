# Every target does all its own set-up in .venv. TORCH=cuda takes torch as the registry offers it.
PYTHON ?= python3
TORCH ?= cpu
COUNT ?= 10000
SEED ?= 0
BIN := $(if $(filter Windows_NT,$(OS)),.venv/Scripts,.venv/bin)
CPU_BUILDS := --extra-index-url https://download.pytorch.org/whl/cpu --retries 1 --timeout 20
PIP := $(BIN)/python -m pip --disable-pip-version-check
SITE := $(BIN)/python -m sphinx -W --keep-going -q -c docs/site -d build/doctrees . build/site

.PHONY: install quickstart test test-slow docs notebooks release fuzz bench reports screens clean

install: .venv/core
quickstart: .venv/core
	$(BIN)/serein quickstart

test: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(SITE)
	$(BIN)/python -m pytest -n 2 --dist worksteal

test-slow: .venv/slow
	$(BIN)/python -m pytest -m slow

docs: .venv/dev
	$(SITE)

notebooks: .venv/dev
	$(BIN)/python tests/run_notebooks.py

release: .venv/dev
	rm -rf dist
	$(BIN)/python -m build --no-isolation
	$(BIN)/python -m twine check --strict dist/*
	$(BIN)/python tests/check_release.py dist

fuzz: .venv/dev
	$(BIN)/python tests/fuzz_audio.py --count $(COUNT) --seed $(SEED)

bench: .venv/dev
	$(BIN)/python -m benchmarks

reports: .venv/dev
	$(BIN)/python -m benchmarks.redraw

# Needs Chromium; `.venv/bin/playwright install chromium` brings one where the system has none.
screens: .venv/dev
	$(BIN)/python tests/screenshots.py docs/page

.venv/torch:
	$(PYTHON) -m venv .venv
	$(PIP) install -q $(if $(filter cpu,$(TORCH)),$(CPU_BUILDS)) "torch>=2.8,<2.14"
	touch $@

.venv/core: .venv/torch pyproject.toml
	$(PIP) install -q -e ".[train]"
	touch $@

.venv/dev: .venv/core pyproject.toml
	$(PIP) install -q -e ".[dev]"
	touch $@

.venv/slow: .venv/dev pyproject.toml
	$(PIP) install -q -e ".[dev,ray]"
	touch $@

clean:
	rm -rf .venv build dist
