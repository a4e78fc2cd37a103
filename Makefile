# Everything runs in .venv, made from the hash-pinned files in requirements/.
# PYTHON=... names an interpreter; requirements/interpreter.sh chooses one where it is not set
VENV   := .venv
BIN    := $(VENV)/bin
CORES  := $(shell nproc 2>/dev/null || echo 2)
# one more than there are cores: many tests wait for a process, a socket, a browser
WORKERS := $(shell expr $(CORES) + 1)
QUICK  := tests/unit tests/dialogs tests/messages

.DEFAULT_GOAL := help

help:  ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

demo: $(VENV)/.runtime  ## Run the gateway in a throw-away folder and send sample mail through all its doors
	$(BIN)/gatepost demo $(ARGS)

test: $(VENV)/.dev $(VENV)/.sslyze tools check  ## Check the code and run all tests
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup $(addprefix --ignore=,$(QUICK)) $(ARGS)

check: $(VENV)/.dev  ## Lint, types, layers and the quick tests: run before each commit
	$(BIN)/ruff check src tests bench
	$(BIN)/ruff format --check src tests bench
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache > .lint-imports.log || { cat .lint-imports.log; exit 1; }; rm -f .lint-imports.log
	$(BIN)/python -m pytest -n $(CORES) $(QUICK) $(ARGS)

test-crash: $(VENV)/.dev tools  ## The long kill loops: no accepted message is ever lost (ARGS="--kills N --messages N")
	$(BIN)/python -m tests.crash $(ARGS)

test-overload: $(VENV)/.dev  ## A minute at five times what the gateway can take (ARGS="--seconds N --factor N")
	$(BIN)/python -m tests.overload $(ARGS)

bench: $(VENV)/.dev  ## Compare with Postfix on this machine (root, and Debian's postfix and opendkim)
	$(BIN)/python -m bench $(ARGS)

format: $(VENV)/.dev  ## Format the code
	$(BIN)/ruff check --fix src tests bench
	$(BIN)/ruff format src tests bench

lock:  ## Renew the lock files (needs uv)
	uv pip compile -q requirements/build.in --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header -o requirements/build.txt
	uv pip compile -q pyproject.toml --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header -o requirements/runtime.txt
	uv pip compile -q pyproject.toml --group dev -c requirements/runtime.txt --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header -o requirements/dev.txt
	uv pip compile -q requirements/sslyze.in --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header -o requirements/sslyze.txt

clean:  ## Remove what was made here
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache dist bench/results

$(VENV)/bin/python:
	chosen="$(PYTHON)"; chosen="$${chosen:-$$(sh requirements/interpreter.sh)}"; \
	  "$$chosen" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or later is needed; name one with make PYTHON=..."; exit 1; }; \
	  "$$chosen" -m venv $(VENV)

$(VENV)/.runtime: requirements/runtime.txt requirements/build.txt pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/build.txt -r requirements/runtime.txt
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.runtime
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@touch $@

# A TLS scanner for the tests; it needs an older cryptography than we do, hence an environment of its own.
$(VENV)/.sslyze: requirements/sslyze.txt | $(VENV)/bin/python
	$(BIN)/python -m venv $(VENV)/sslyze
	$(VENV)/sslyze/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/sslyze.txt
	@touch $@

# The tests talk to real programs. A missing one is a failure, never a skip.
tools:
	@for tool in smtp-sink smtp-source swaks chromium pebble unbound dovecot; do \
	  PATH="$$PATH:/usr/sbin:/usr/bin" command -v $$tool >/dev/null || { echo "make test needs $$tool; on Debian: apt-get install postfix swaks chromium pebble unbound dovecot-imapd"; exit 1; }; done

.PHONY: help demo test check test-crash test-overload bench format lock clean tools
