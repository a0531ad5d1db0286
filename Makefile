# make demo: labels and embeds a few photographs        make test: lint, types and the whole suite (what CI runs)
# make quick: the inner loop, under 3 minutes           make help: the rest

PYTHON ?= python3
BIN := .venv/bin
# uv installs torch in half a minute where pip takes three
INSTALL = $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --constraint constraints.txt

.PHONY: help demo test quick soak lint types docs check-hub measure-bundled benchmarks clean

help:
	@echo "demo             make .venv, install, label and embed three photographs with the weights in the package"
	@echo "test             make .venv, install with the test tools, lint, types, whole suite"
	@echo "quick            the suite without its slow tests"
	@echo "soak             long forms of some tests: many kills, many damaged files"
	@echo "docs             the documentation site, in build/site"
	@echo "check-hub        fetch the published weights and compare with timm on photographs (needs the hub)"
	@echo "measure-bundled  measure the bundled weights again: make measure-bundled DATA=test-000000.tar.gz"
	@echo "benchmarks       benchmarks/RESULTS.md from fresh measurements (hours), but for what needs data or an environment"
	@echo "                 of its own: python benchmarks/NAME.py, with NAME accuracy, runtime, scale or serving"
	@echo "clean            remove .venv and caches"

.venv/installed-demo: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet uv
	$(INSTALL) --editable .
	@touch $@

.venv/installed-test: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet uv
	$(INSTALL) --editable '.[test]'
	@touch $@ .venv/installed-demo

demo: .venv/installed-demo
	$(BIN)/python examples/demo.py

lint: .venv/installed-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: .venv/installed-test
	$(BIN)/basedpyright
	$(BIN)/basedpyright --project tools/pyright.json

# Tests marked `compiled` run on all cores; the others in two processes of one thread each, a file's tests in the same one.
test: lint types
	$(BIN)/python -m pytest -m 'compiled and not soak' tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m 'not compiled and not soak'

# Long forms of what the suite promises: many kills, many sizes, many damaged files.
soak: .venv/installed-test
	$(BIN)/python -m pytest -m soak tests

quick: .venv/installed-test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile -m 'not slow and not compiled and not soak'

docs: .venv/installed-test
	$(BIN)/python docs/make_command_line.py
	$(BIN)/zensical build --strict

check-hub: .venv/installed-test
	$(BIN)/python tools/check_hub.py --output tools/check_hub.json

# make measure-bundled NAME=convit_nano_patch4_32.cifar10 DATA=test-000000.tar.gz
NAME ?= convit_nano_patch4_32.cifar10
measure-bundled: .venv/installed-test
	$(BIN)/python docs/make_cards.py measure $(NAME) $(DATA)
	$(BIN)/python docs/make_readme.py

benchmarks: .venv/installed-test
	for name in parity startup folder decoding exports vectors large_index targets; do $(BIN)/python benchmarks/$$name.py || exit 1; done

clean:
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis demo-photos
