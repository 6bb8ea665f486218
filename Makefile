# The words a newcomer tries. `make` alone lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PAGE := sisock/page/built/index.html
UV := $(BIN)/uv
# What goes to `sisock up` or to the benchmark: make run ARGS="--ports auto", make bench ARGS="--only reads"
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup run test soak bench bench-peers lint format types lock clean

help: ## List these words.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 13

setup: $(READY) $(PAGE) ## Make the environment .venv with exactly what is locked, and build the page.

$(READY): requirements/uv.txt requirements/lock.txt pyproject.toml setup.py
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { \
	  echo "Python's venv is missing: apt-get install python3-venv" >&2; rm -rf $(VENV); exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	$(UV) pip sync --quiet --compile-bytecode --require-hashes requirements/lock.txt
	$(UV) pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# Without the npm registry a site runs with a plain page; CI insists on the real one.
$(PAGE): $(READY) js/package-lock.json $(shell find js/src js/public js/index.html js/vite.config.ts -type f)
	@(js/npm ci --silent --no-audit --no-fund && js/npm run --silent build) || { \
	  echo "The page could not be built; a site runs with a plain one." >&2; test -z "$(CI)"; }

run: setup ## Start a whole site; Ctrl-C stops it.
	@exec $(BIN)/sisock up $(ARGS)

# Unpacked, not installed: no service starts, and no root is needed. A machine that has a redis-server uses that.
REDIS := build/redis/usr/bin/redis-server
$(REDIS):
	@command -v redis-server >/dev/null || ! command -v apt-get >/dev/null || { mkdir -p build/redis && cd build/redis \
	  && { test "$$(id -u)" != 0 || apt-get update -qq; } \
	  && apt-get download -qq -o APT::Sandbox::User=root redis-server redis-tools libjemalloc2 liblzf1 \
	  && for package in *.deb; do dpkg -x "$$package" . && rm "$$package" || exit 1; done; }

# The bridge's PromQL is held to a real one, unpacked like that. Without it those tests say so and are skipped; CI insists on it.
PROMETHEUS := build/prometheus/usr/bin/promtool
$(PROMETHEUS):
	@rm -rf build/prometheus build/prometheus.part && mkdir -p build/prometheus.part && cd build/prometheus.part && { \
	  { test "$$(id -u)" != 0 || apt-get update -qq; } && apt-get download -qq -o APT::Sandbox::User=root prometheus \
	    && dpkg -x prometheus_*.deb . && rm prometheus_*.deb && mv ../prometheus.part ../prometheus; } 2>log >&2 \
	  || { echo "Prometheus could not be fetched; its tests are skipped: $$(tail -1 log)" >&2; test -z "$(CI)"; }

# Apart from the site's: it needs a newer idna than Crossbar lets in.
SCHEMATHESIS := build/schemathesis/.ready
$(SCHEMATHESIS): requirements/schemathesis.txt $(READY)
	$(UV) venv --quiet --clear --python $(BIN)/python build/schemathesis
	$(UV) pip sync --quiet --require-hashes --python build/schemathesis requirements/schemathesis.txt
	@touch $@

# Three processes, each with a router of its own: most of what a test takes is waiting for another process to start.
test: setup $(REDIS) $(PROMETHEUS) $(SCHEMATHESIS) ## Run every test.
	$(BIN)/python -m pytest --numprocesses 3 --dist loadfile
	js/npm test --silent
	@command -v chromium >/dev/null || test "$$(id -u)" != 0 || { apt-get update -qq && apt-get install -qq -y chromium >/dev/null; }
	$(BIN)/python -m pytest tests/browser

soak: setup $(REDIS) $(PROMETHEUS) $(SCHEMATHESIS) ## Run the long forms of the tests.
	$(BIN)/python -m pytest -m soak --timeout 3600 -rP

bench: setup $(REDIS) ## Measure the store, following, nodes, served tables and the bridge beside their baselines, 18 minutes; writes build/bench*.json.
	@mkdir -p build
	$(BIN)/python -m bench.store --json build/bench.json $(ARGS)
	$(BIN)/python -m bench.follow --json build/bench-follow.json $(ARGS)
	$(BIN)/python -m bench.readings --json build/bench-readings.json $(ARGS)
	$(BIN)/python -m bench.robots --json build/bench-robots.json $(ARGS)
	$(BIN)/python -m bench.geoms --json build/bench-geoms.json $(ARGS)
	$(BIN)/python -m bench.serve --json build/bench-serve.json $(ARGS)
	$(BIN)/python -m bench.bridge --json build/bench-bridge.json $(ARGS)

# Unpacked, not installed: their services are not to run, and a benchmark needs no root.
bench-peers: ## Fetch InfluxDB, VictoriaMetrics and Mosquitto, as Debian packs them, for make bench.
	@command -v apt-get >/dev/null || { echo "The peers come as Debian's packages, and there is no apt-get here." >&2; exit 1; }
	@rm -rf build/peers && mkdir -p build/peers
	@test "$$(id -u)" != 0 || apt-get update -qq
	cd build/peers && apt-get download -qq -o APT::Sandbox::User=root influxdb victoria-metrics \
	    mosquitto libwrap0 libdlt2 libcjson1 \
	  && for package in *.deb; do dpkg -x "$$package" . && rm "$$package" || exit 1; done

lint: setup types ## Check style and types.
	js/npm run --silent types
	js/npm run --silent lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Type checkers know no package_dir, so they get the packages in the places that their import names say.
types: setup
	@rm -rf build/types && mkdir -p build/types/sisock
	@ln -s $(CURDIR)/sisock/* $(CURDIR)/nodes $(CURDIR)/grafana_bridge build/types/sisock/
	@mkdir -p build/types/sisock/crossbar && ln -s $(CURDIR)/.crossbar/__init__.py build/types/sisock/crossbar/
	MYPYPATH=build/types $(BIN)/mypy -p sisock

format: setup ## Bring the code into shape.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: setup ## Choose the newest versions that fit and pin them.
	$(UV) pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	  --no-annotate --extra site --extra postgres --extra queue --extra notebook --group dev --override requirements/overrides.txt pyproject.toml \
	  -o requirements/lock.txt
	echo uv | $(UV) pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-header --no-annotate - -o requirements/uv.txt
	echo schemathesis | $(UV) pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-header --no-annotate - -o requirements/schemathesis.txt

clean: ## Remove the environment and everything that was made.
	rm -rf $(VENV) build dist js/node_modules sisock/page/built *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
