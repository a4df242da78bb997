# Brock. `make demo` shows it, `make test` proves it; both set up what they need first.

# Outside the clone, so that a fresh clone does not compile RocksDB again. Override either at will.
BROCK_CACHE ?= $(HOME)/.cache/brock
CARGO_TARGET_DIR ?= $(BROCK_CACHE)/target
export BROCK_CACHE CARGO_TARGET_DIR

# rustup's default place, for shells that have not read its profile script.
export PATH := $(PATH):$(HOME)/.cargo/bin

CARGO_DENY_VERSION := 0.20.2
CARGO_DENY := $(BROCK_CACHE)/tools/cargo-deny-$(CARGO_DENY_VERSION)/bin/cargo-deny
export CARGO_DENY CARGO_DENY_VERSION

# The tests plant bugs in the code to see that they are found; no release has that feature.
FEATURES := --features planted-bugs
SEEDS ?= 20000
STATES ?= 10000000

# Links the RocksDB that the script has compiled into the cache, once for all profiles.
cargo := deploy/rocksdb.sh cargo

heading = @printf '\n== %s\n' '$(1)'
first-time := the first time about seven minutes on two cores

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup setup-build build demo package test one deploy sim model bench release references fmt clean

help: ## Say what can be made
	@printf 'Brock: a masterless, clustered, eventually consistent key-value node.\n\n'
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 18
	@printf '\nBuilt in %s (CARGO_TARGET_DIR).\n' '$(CARGO_TARGET_DIR)'

setup: ## Install what the build and the tests need and this machine lacks
	$(call heading,setup)
	@deploy/setup.sh test

# What the build alone needs: no browser, no tools of the tests.
setup-build:
	$(call heading,setup)
	@deploy/setup.sh build

build: setup-build ## Build brock and node-admin
	$(call heading,build ($(first-time)))
	$(cargo) build --locked --bins

demo: build ## Start a three-node cluster here, write to one node, read from another
	$(call heading,demo)
	@deploy/demo.sh

test: setup ## Prove it: format, lints, dependencies, documentation, tests, deploy
	$(call heading,format)
	cargo fmt --all --check
	$(call heading,lints ($(first-time)))
	$(cargo) clippy --locked --workspace --all-targets $(FEATURES) -- -D warnings
	$(call heading,dependencies: bans licences sources)
	$(CARGO_DENY) --locked --config .cargo/deny.toml check --hide-inclusion-graph bans licenses sources
	$(call heading,documentation)
	RUSTDOCFLAGS='-D warnings' $(cargo) doc --locked --workspace --no-deps
	$(call heading,tests)
	$(cargo) test --locked --workspace $(FEATURES)
	@$(MAKE) --no-print-directory deploy

# After the tests there are binaries to try it with; without them, what needs them is left out.
deploy: ## Validate what is under deploy/
	$(call heading,deploy)
	@deploy/check.sh

one: setup ## Run the tests whose names contain TEST: make one TEST=verification
	$(cargo) test --locked --workspace $(FEATURES) -- $(TEST)

sim: setup ## Run the simulation with any number of seeds: make sim SEEDS=100000
	$(call heading,simulation)
	for focus in any liars; do \
		BROCK_SIM_SEEDS=$(SEEDS) BROCK_SIM_FOCUS=$$focus $(cargo) test --locked --workspace $(FEATURES) --test suite -- \
			sim::stores_converge --nocapture || exit; \
	done

model: setup ## Check the model of the protocol more deeply: make model STATES=10000000
	$(call heading,model)
	BROCK_MODEL_STATES=$(STATES) $(cargo) test --locked --workspace $(FEATURES) --test suite -- model:: --nocapture

bench: setup ## Measure it against redis-server, print a Markdown table
	$(call heading,bench)
	@deploy/bench.sh

release: setup-build ## Build optimised binaries
	$(call heading,release)
	$(cargo) build --locked --release --bins
	@printf 'Built %s and node-admin beside it.\n' '$(CARGO_TARGET_DIR)/release/brock'

package: ## Make a .deb and a tarball of an optimised build, with bill of materials and checksums
	$(call heading,package)
	@deploy/setup.sh package
	deploy/package.sh

references: setup ## Write docs/reference/ from the code
	$(call heading,references)
	UPDATE_REFERENCES=1 $(cargo) test --locked --workspace $(FEATURES) --test suite -- documents::references

fmt: ## Format the code
	cargo fmt --all

clean: ## Remove what was built for this package, keep the dependencies
	cargo clean --package brock --package brock-core --package brock-net --package brock-client
