# Shortcuts for people and for CI. Everything here can be typed by hand.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# The private servers of the demo and of the tests, used without their services, the tests' connection
# pooler, what the Python client is tested with, and what gives a process another time: Debian packages.
SERVERS := postgresql pgbouncer rabbitmq-server python3-venv libfaketime

# What the alerts are tested with. The package would install a service and a user; only its programs are needed.
PROMETHEUS := $(or $(CARGO_TARGET_DIR),target)/prometheus
SUDO := $(if $(filter-out 0,$(shell id -u)),sudo)
APT := $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0

# What is measured is what is packaged: built by itself, without what the load test's libraries would add to it.
DIST := cargo build --profile dist --package settled && cargo build --profile dist --package settled-loadtest

# How long `make fuzz` gives each target, and which.
FUZZ_SECONDS ?= 60
FUZZ_TARGETS ?= $(notdir $(basename $(wildcard fuzz/targets/*.rs)))

.PHONY: help demo test bench speed chaos defects fuzz lint deny docs asyncapi deb package-test alerts matrix servers prometheus

help: ## Show this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 21

demo: servers ## Run the daemon for real: 50,000 payments on private servers, and a verdict
	cargo build --package settled --package settled-loadtest
	./target/debug/settled-loadtest demo

# A test waits half of the time, for servers and processes: there are two more at a time than there are cores.
test: export RUST_TEST_THREADS ?= $(shell expr $$(nproc) + 2)
test: servers prometheus ## Run every test; those that need servers start their own
	cargo test --workspace
	cargo test --quiet --package settled --bench '*'

bench: servers ## Measure what a payment passes, piece by piece; some minutes
	cargo bench

speed: servers ## Measure the speed against references, and whether its targets hold; half an hour
	$(DIST)
	./target/dist/settled-loadtest speed --grown --out target/speed

# A run each: its name, and what breaks how often. Three and a half hours. A broker that is killed is away for
# ten seconds: what piles up meanwhile needs some, too, or RabbitMQ reads ever more at its next start.
LIFE := --mix transfer:60,authorize-capture:20,authorize-void:5,refund:10,legs:4:5 --out-of-order 5% --scheduled 5%
define CHAOS
kills --faults kill:300 --duration 15m --seed 1
cuts --faults cut-before-commit:200,cut-after-commit:200,cut-before-ack:200,cut-after-ack:200,cut-before-confirm:200 --duration 15m --seed 2
broker --faults broker-kill:50,broker-restart:10,broker-close:20 --duration 20m --seed 31
servers --faults db-stop:50,db-terminate:20,db-cut:20 --duration 12m --seed 3
database --faults db-promote:12,db-full:10,db-read-only:10,db-lock:10,db-slow:10 --duration 8m --seed 4
events --faults broker-alarm:12,queue-delete:12,events-unbind:12,events-delete:12,term:20,freeze:20 --duration 10m --seed 5
lines --faults half-open:8,delay:20 --duration 5m --seed 6
two --faults all --count-per-fault 5 --daemons 2 --duration 15m --seed 7 $(LIFE)
four --faults all --count-per-fault 5 --daemons 4 --rate 1200 --duration 15m --seed 8 $(LIFE)
stream --subscriber stream --faults kill:300,broker-kill:50,cut-before-stream-confirm:100,cut-after-stream-confirm:100,stream-delete:10 --duration 30m --seed 11 $(LIFE)
stream-two --subscriber stream --faults kill:300,broker-kill:50,freeze:20,cut-before-stream-confirm:50,cut-after-stream-confirm:50,stream-delete:10 --daemons 2 --duration 30m --seed 12 $(LIFE)
away --faults db-stop:1 --hold 10m --duration 3m --seed 9
blocked --faults broker-alarm:1 --hold 10m --duration 3m --seed 10
endef
export CHAOS

chaos: servers ## Break everything, for hours: the long part of the proof; results in target/chaos
	$(DIST)
	@failed=; while read -r name line; do \
	    echo "== $$name: settled-loadtest chaos $$line"; \
	    ./target/dist/settled-loadtest chaos $$line --goals --out "target/chaos/$$name" </dev/null \
	        || failed="$$failed $$name"; \
	done <<<"$$CHAOS"; \
	echo "results: target/chaos/*/chaos.txt, and chaos.json for programs"; \
	if [ -n "$$failed" ]; then echo "failed:$$failed"; exit 1; fi

alerts: servers prometheus ## Have every alert of P0 and P1 fired by its fault in a real daemon; some minutes
	cargo test --workspace --test faults -- --ignored alerts::

# Needs root and debootstrap, once. It builds the tests first, so that all of them run what was built last.
matrix: servers ## Run tests and short loads against PostgreSQL and RabbitMQ of Debian 12 and 13, in all pairs; an hour
	./tests/matrix/run

# Those at the seams are found by `make test`.
defects: servers ## Have every defect found that is a patch: a build each, of a copy; half an hour
	./crates/testkit/defects/find

# Instrumented for coverage, without a sanitizer: there is no unsafe code here, and stable Rust has
# none. What is found new stays in fuzz/target/found; `cargo fuzz cmin` makes a corpus of it.
fuzz: ## Feed every parser made-up input, FUZZ_SECONDS each (60)
	@cargo fuzz --version >/dev/null 2>&1 || \
	    CARGO_PROFILE_DEV_DEBUG=0 cargo install --locked --debug cargo-fuzz
	cargo fuzz build --sanitizer none
	for target in $(FUZZ_TARGETS); do \
	    mkdir -p fuzz/target/found/$$target; \
	    cargo fuzz run --sanitizer none $$target fuzz/target/found/$$target fuzz/corpus/$$target -- \
	        -dict=fuzz/dictionaries/task.dict -max_len=4096 -timeout=10 -rss_limit_mb=512 \
	        -max_total_time=$(FUZZ_SECONDS) -print_final_stats=1 -verbosity=0; \
	done

lint: ## Check formatting, lints, documentation and dependencies
	cargo fmt --all --check
	rustfmt --check --edition 2024 fuzz/src/lib.rs fuzz/targets/*.rs
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps
	$(MAKE) --no-print-directory deny

# The fourth check, advisories, needs the advisory database from the network: see the workflow.
# An unoptimised cargo-deny takes a moment longer here, and minutes less to build.
deny:
	@cargo deny --version >/dev/null 2>&1 || \
	    CARGO_PROFILE_DEV_DEBUG=0 cargo install --locked --debug cargo-deny
	cargo deny --log-level error check bans licenses sources

# Links, examples and generated parts are checked by a test, which `make test` runs, too. mdBook unoptimised, and
# without its server, is built in half a minute.
docs: ## Check the documents, and build the book in target/book
	cargo test --quiet --package settled --test documentation
	@mdbook --version >/dev/null 2>&1 || \
	    CARGO_PROFILE_DEV_DEBUG=0 cargo install --locked --debug --no-default-features --features search mdbook
	mdbook build

# AsyncAPI's command line is 450 MB of packages. Their scripts at installation are not needed; with CI it sends no statistics.
asyncapi: ## Have AsyncAPI's own command line check schemas/asyncapi.json; needs Node.js and a package registry
	CI=true npm_config_ignore_scripts=true npx --yes --package @asyncapi/cli@6.2.0 \
	    asyncapi validate schemas/asyncapi.json --fail-severity=info

# The pages and the completions come from a debug build, because neither they nor what makes them is in the package's
# binary. `DEB_VERSION=0.1.0~rc1-1` names another version than Cargo.toml does. cargo-deb unoptimised compresses in some
# seconds more, and is built in minutes less.
DEB_VERSION ?= $(shell sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)-1

deb: ## Build the Debian package, optimised, and one with its debug symbols, in target/debian
	@cargo deb --version >/dev/null 2>&1 || \
	    CARGO_PROFILE_DEV_DEBUG=0 cargo install --locked --debug cargo-deb
	cargo build --profile dist --package settled
	cargo run --quiet --example manual -- target/package
	./systemd/debian/changelog $(DEB_VERSION) >target/package/changelog
	cargo deb --no-build --profile dist --dbgsym --deb-version $(DEB_VERSION)

# Needs root, debootstrap and systemd-container.
package-test: ## Install the Debian package in a booted Debian 12 of its own, upgrade it under load, purge it
	./systemd/test-package

servers: ## Install PostgreSQL, PgBouncer and RabbitMQ where they are missing
	@missing="$$(for package in $(SERVERS); do \
	    dpkg-query -W -f='$${Status}' $$package 2>/dev/null | grep -q 'ok installed' || echo $$package; \
	done)"; \
	if [ -n "$$missing" ]; then \
	    echo "installing:" $$missing; \
	    $(APT) update && $(APT) install -y --no-install-recommends $$missing >/dev/null; \
	fi

prometheus: ## Unpack Prometheus for the tests where it isn't installed (19 MB)
	@[ -x /usr/bin/promtool ] || [ -x $(PROMETHEUS)/usr/bin/promtool ] || { \
	    echo "unpacking: prometheus"; \
	    mkdir -p $(PROMETHEUS) && cd $(PROMETHEUS); \
	    apt-get -qq download prometheus 2>/dev/null || { $(APT) update; apt-get -qq download prometheus; }; \
	    dpkg-deb --fsys-tarfile prometheus_*.deb | tar -x ./usr/bin; \
	    rm prometheus_*.deb; \
	}
