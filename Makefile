# `make demo` shows it at work, `make test` checks it. Both set up what they need in .venv.
PYTHON ?= python3
BIN := .venv/bin
OTHER_PYTHONS := 3.12 3.13
# One process for each core; threads inside the processes would only compete for the same cores. Files are taken in the
# order of tests/conftest.py, those with slow tests first.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -q -n auto --dist loadfile --no-loadscope-reorder
# What other interpreters run: reading, models, training and the command line.
CORE_TESTS := tests/test_cli.py tests/test_every_model.py tests/test_recipe.py tests/test_skeleton_files.py \
              tests/test_train.py tests/test_video.py

.PHONY: demo docs test test-all test-other-pythons lint format clean

demo: .venv/installed
	$(BIN)/muybridge demo

# The site in site/: a broken link or a public name without a docstring fails. For preview: .venv/bin/mkdocs serve
docs: .venv/installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

test: lint
	$(PYTEST) -m "not slow"
	@$(MAKE) --no-print-directory test-other-pythons

test-all: lint
	$(PYTEST)
	@$(MAKE) --no-print-directory test-other-pythons

test-other-pythons:
	@for version in $(OTHER_PYTHONS); do \
	  if [ "$$($(BIN)/python -c 'import sys; print("%d.%d" % sys.version_info[:2])')" = $$version ]; then continue; fi; \
	  if ! python$$version -c '' 2>/dev/null; then echo "Python $$version is not found; its tests are skipped"; continue; fi; \
	  test -x .venv-$$version/bin/pytest || { \
	    echo "installing into .venv-$$version (about 5 GB with PyTorch's default build)"; \
	    python$$version -m venv .venv-$$version && \
	    .venv-$$version/bin/pip install --quiet --disable-pip-version-check -e '.[dev]' || exit 1; }; \
	  OMP_NUM_THREADS=1 .venv-$$version/bin/pytest -q -n auto --dist loadfile --no-loadscope-reorder -m "not slow" $(CORE_TESTS) || exit 1; \
	done

lint: .venv/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports

format: .venv/installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.venv/installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing into .venv: about 5 GB with PyTorch's default build, a few minutes (docs/install.md: the CPU build is smaller)"
	$(BIN)/pip install --quiet --disable-pip-version-check -e .
	touch $@

.venv/installed-dev: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing into .venv: about 5 GB with PyTorch's default build, a few minutes (docs/install.md: the CPU build is smaller)"
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@ .venv/installed

clean:
	rm -rf .venv .venv-* .pytest_cache .ruff_cache .import_linter_cache build dist site
