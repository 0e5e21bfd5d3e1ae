# What a newcomer and the CI type. Every target makes what it needs, and is quick the second time.
SHELL := /bin/bash
.DELETE_ON_ERROR:
.PHONY: help demo test lint bench deb reference clean

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

help:
	@echo 'make demo    a real gateway and a real agent on this machine, and calls through them'
	@echo '             (KEEP=1 leaves them running for you to go on by hand)'
	@echo 'make test    every test, against real servers (ONLY=tests.tunnel for a part)'
	@echo 'make lint    ruff, mypy --strict, import contracts'
	@echo 'make bench   side by side with direct access, ssh -R and asyncssh (ONLY=calls for a part)'
	@echo 'make reference  docs/errors.md and docs/log-events.md, made from the code'
	@echo 'make deb     Debian packages of both programs, in dist'
	@echo 'make clean   removes what the others made, the virtualenv too'

demo: $(INSTALLED)
	@$(BIN)/python -m demo $(if $(KEEP),--keep)

test: $(INSTALLED)
	@.ci/packages.sh test
	@$(BIN)/python -m twisted.trial $(or $(ONLY),tests)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --allow-untyped-calls bench demo
	$(BIN)/lint-imports

bench: $(INSTALLED)
	@.ci/packages.sh bench
	@$(BIN)/python -m bench $(ONLY)

reference: $(INSTALLED)
	@$(BIN)/python .ci/reference.py

deb: $(INSTALLED)
	@.ci/packages.sh deb
	@.ci/deb.sh dist
	lintian --fail-on error dist/*.changes
	@ls -s --block-size=K dist/*.deb

# Made again when the dependencies change; the sources themselves are used from this folder.
$(INSTALLED): setup.py pyproject.toml .ci/venv.sh
	@.ci/packages.sh venv
	@PYTHON=$(PYTHON) .ci/venv.sh .venv
	@touch $@

clean:
	rm -rf .venv _trial_temp* build dist *.egg-info twisted/plugins/dropin.cache bench/results.json
	rm -rf .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
