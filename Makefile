# One word per job. Each sets up what it needs; nothing has to be run before it.
SHELL := /bin/sh
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: help demo test check bench bench-check corpus deploy-test threat-model mutation probes fuzz budgets lock clean

help: ## Show the words
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

$(VENV)/.run: requirements/run.lock pyproject.toml scripts/setup
	@scripts/setup run $(VENV)

$(VENV)/.dev: requirements/dev.lock requirements/run.lock pyproject.toml scripts/setup
	@scripts/setup dev $(VENV)

demo: $(VENV)/.run ## Show the main job on a throw-away repository
	@scripts/demo $(BIN)

test: $(VENV)/.dev ## Run the tests, and say how much of core/ they cover
	@scripts/test $(BIN)

check: $(VENV)/.dev ## Lint, format, types, import rules, and this repository's own policy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/safeai-git policy lint .safeai/policy.yaml
	$(BIN)/safeai-git policy lint policy.example.yaml

bench: $(VENV)/.dev ## Measure against references in the same run
	$(BIN)/python -m benchmarks $(BENCH)

bench-check: $(VENV)/.dev ## Compare the newest figures of make bench with the recorded ones
	$(BIN)/python -m benchmarks.compare

mutation: $(VENV)/.dev ## Remove each guard of core/ and see that a test fails
	$(BIN)/python tests/mutation.py

probes: $(VENV)/.dev ## Try to break out of every sandbox, and take each of its guards away in turn
	$(BIN)/python tests/tools_probes.py
	$(BIN)/python tests/tools_probes.py --mutate

fuzz: $(VENV)/.dev ## Feed every parser odd bytes for FUZZ_SECONDS (300)
	$(BIN)/python tests/test_fuzz.py --seconds $(or $(FUZZ_SECONDS),300)

budgets: $(VENV)/.dev ## Run the tests of memory and time with the sizes of a determined attacker
	SAFEAI_BUDGETS=full $(BIN)/python -m pytest -q tests/test_budgets.py

corpus: $(VENV)/.dev ## Build the attack repositories in build/corpus
	@rm -rf build/corpus
	@mkdir -p build
	@$(BIN)/python -m tests.corpus --to build/corpus

deploy-test: $(VENV)/.dev ## Try the deployment as far as this machine allows, and list what was skipped
	$(BIN)/python tests/tools_deploy_run.py

threat-model: $(VENV)/.dev ## Try every attack and write the tables of docs/threat-model.md
	@scripts/threat-model $(BIN)

lock: ## Resolve the dependencies again and write the hashed locks
	@[ -x $(BIN)/pip ] || python3 -m venv $(VENV)
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-header \
		pyproject.toml requirements/build.in -o requirements/run.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-header \
		pyproject.toml --extra governor -o requirements/governor.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-header \
		requirements/image.in -o requirements/image.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-header \
		requirements/checkov.in -o requirements/checkov.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-header \
		pyproject.toml requirements/build.in --all-extras --group dev -o requirements/dev.lock

clean: ## Remove what was built
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage* build dist
