# Everything a person does with Groundplan. Each target makes what it needs, once.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
ENV ?= dev
ARCH ?= all
STACK ?=
SET ?=
TESTS ?= tests
WORKERS ?= 3
BENCH ?=
FILE ?=
CDK_ARGS ?=
IAM ?= on
# Processes start in a third of the time with the bytecode of the last one
unexport PYTHONDONTWRITEBYTECODE

app := .groundplan/envs/app/bin
# The shell splits SET, so that quotes keep the blanks of a value: SET="'a.b=rate(7 days)' c.d=2"
chosen = set -- -c env=$(ENV) $(if $(STACK),-c only=$(subst -,_,$(STACK))); for choice in $(SET); do set -- "$$@" -c "$$choice"; done;
stack = $(if $(STACK),groundplan-$(ENV)-$(subst _,-,$(STACK)))

.DEFAULT_GOAL := help
.PHONY: help setup demo test quick docs pages lint format up down status iam synth diff bootstrap deploy destroy bench lock clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup:
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info[:2] < (3, 11) and "Groundplan needs Python 3.11: set PYTHON=/path/to/python3.11")'
	@"$(PYTHON)" -m tooling.envs cdk cloud snowflake app >/dev/null
	@"$(PYTHON)" -m tooling.layers >/dev/null

demo: setup ## deploy to the local cloud, run end to end, write out/report/index.html (ARCH=name for one)
	@$(app)/python -m demo --arch $(ARCH)

test: setup $(if $(filter-out tests,$(TESTS)),,lint) ## style, types and tests; with TESTS=tests/unit only these tests (WORKERS=3 at a time)
	@$(app)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(TESTS)

quick: setup ## the unit tests only, in less than a minute
	@$(app)/python -m pytest -q -n $(WORKERS) tests/unit

lint: setup ## style and types
	@$(app)/ruff check . && $(app)/ruff format --check . || { echo "make format repairs most of this"; exit 1; }
	@$(app)/pyright && $(app)/python -m tooling.prose

format: setup ## repair the style: ruff's fixes and format
	@$(app)/ruff check --fix --quiet . ; $(app)/ruff format .

docs: setup ## build the documentation site in out/docs; broken links and stale snippets fail
	@$(app)/python -m documentation.snippets
	@NO_MKDOCS_2_WARNING=1 "$$("$(PYTHON)" -m tooling.envs docs)" -m mkdocs build --strict --quiet --clean && echo "site in out/docs/index.html"

pages: synth ## write the generated parts of the documentation again: diagrams, props of constructs, tables
	@$(app)/python -m documentation.pages && $(app)/python -m documentation.fidelity

up: setup ## start the local cloud
	@$(app)/python -m local up

down: setup ## stop it
	@$(app)/python -m local down

status: setup ## what runs in it
	@$(app)/python -m local status || true

iam: setup ## check every call in it against its caller's policies (IAM=on, the default), or none (IAM=off)
	@$(app)/python -m local iam $(IAM)

synth: setup ## write the templates to cdk.out (ENV=dev|prod, STACK=name)
	@$(chosen) $(app)/python -m tooling.cdk synth --quiet "$$@" $(stack) && echo "templates in cdk.out"

diff: setup ## what a deployment would change
	@$(chosen) $(app)/python -m tooling.cdk diff "$$@" $(stack) $(CDK_ARGS)

bootstrap: setup ## make an account and Region ready for the CDK, once
	@$(chosen) $(app)/python -m tooling.cdk bootstrap "$$@" $(CDK_ARGS)

deploy: setup ## deploy to AWS with your own credentials: all stacks, or STACK=name (ENV=dev|prod, SET="NAME.field=value ...", CDK_ARGS="--require-approval never")
	@$(chosen) $(app)/python -m tooling.cdk deploy "$$@" $(or $(stack),--all) $(CDK_ARGS)

destroy: setup ## remove from AWS: all stacks, or STACK=name (ENV=dev|prod, CDK_ARGS=--force without a terminal)
	@$(chosen) $(app)/python -m tooling.cdk destroy "$$@" $(or $(stack),--all) $(CDK_ARGS)

bench: setup ## measure against the schemes that others publish (BENCH=name for one)
	@$(app)/python -m benchmarks $(BENCH)

lock: setup ## resolve every requirements.in again, with the newest versions (FILE=folder for one, without upgrades)
	@"$(PYTHON)" -m tooling.lock $(FILE)

clean: ## remove everything that can be made again
	rm -rf .groundplan node_modules cdk.out out
