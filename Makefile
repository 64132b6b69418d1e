# make lab: the main job; make test: everything that can be checked without a cloud. Both create .venv from PyPI alone.
PYTHON ?= python3
RUN := .venv/bin/python

.PHONY: lab test unit lint golden scenarios home tailnet constraints clean

.venv/ready: requirements.txt requirements-dev.txt constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	test -d .venv || $(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

lab: .venv/ready            ## serve the declaration on this machine until Ctrl-C
	$(RUN) -m lab up

test: lint unit             ## lint, types, all tests but those of `make tailnet`, which need Go and root
	$(RUN) -m pytest tests/bootstrap --numprocesses=2 --dist=loadfile
	$(RUN) -m pytest tests/engine tests/lab

unit: .venv/ready           ## the fast part, on two cores; a file stays on one, which renders its stacks once
	$(RUN) -m pytest tests/unit tests/golden --numprocesses=2 --dist=loadfile

lint: .venv/ready
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/basedpyright

golden: .venv/ready         ## accept what the program registers now
	$(RUN) -m tests.golden.update

scenarios: .venv/ready      ## every fault under load, with a cold start of 45 s; about 15 minutes
	$(RUN) -m lab.measure.scenarios --samples .lab/scenarios

home: .venv/ready           ## the home server: bootstrap, guard and changing address, case by case; its services, all at once
	$(RUN) -m tests.bootstrap
	$(RUN) -m lab.measure.services

tailnet: .venv/ready        ## the gateway in a real tailnet, a row per case; Go, root, network namespaces; 4 minutes, the first time 6
	$(RUN) -m pytest tests/tailnet

constraints: .venv/ready    ## pin what the direct dependencies bring along
	(echo "# All versions of a working set-up; renew with \`make constraints\`."; .venv/bin/pip freeze) > constraints.txt

clean:
	rm -rf .venv .lab
