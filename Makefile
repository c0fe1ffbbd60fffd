# `make help` says what there is. Everything works as root and as an ordinary user.

CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)
RELEASE := $(TARGET)/release
PREFIX ?= $(HOME)/.local
BINARIES := agent coordinator netsim nqueens oar
OAR_NAMES := oarsub oarstat oardel oarhold oarresume oarnodes oarnodesetting oarproperty oaraccounting
BASH_COMPLETIONS := share/bash-completion/completions

# Ordinary users of Debian do not have the folders of nft and ip in PATH; a fresh rustup is not there
# before the next login.
export PATH := $(PATH):/usr/local/sbin:/usr/sbin:/sbin:$(HOME)/.cargo/bin

.PHONY: help prepare prepare-test prepare-bench build doctor demo test bench-net bench-api bench-agent deb install
.DEFAULT_GOAL := help

help: ## list the targets
	@echo 'Clouds@home:'
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1@\2/p' $(MAKEFILE_LIST) | tr '@' '\t' | expand -t 22

demo: prepare build doctor ## install what is missing, build, run the main job on six volunteers
	$(RELEASE)/netsim run netsim/scenarios/nqueens.toml

test: prepare-test build doctor ## the same for the whole test suite
	$(CARGO) test --release --workspace

bench-net: prepare-bench build doctor ## measure the data plane beside its peers; writes docs/benchmarks.md (about a quarter of an hour)
	$(RELEASE)/netsim bench net --tools $(TARGET)/tools/bin --page docs/benchmarks.md

bench-api: build ## measure the coordinator under load; writes bench/results/api.json and docs/benchmarks.md (about ten minutes)
	$(RELEASE)/netsim bench api --page docs/benchmarks.md

bench-agent: ## measure what the agent costs; writes bench/results/agent.json (a minute)
	$(CARGO) bench --workspace --bench agent -- --out $(CURDIR)/bench/results/agent.json

deb: ## build the agent's Debian package into target/debian
	@$(CARGO) build --release -p agent
	@packaging/agent/build $(RELEASE)/agent $(TARGET)/debian

build: ## build all programs into target/release, with OAR's names beside `oar`
	$(CARGO) build --release --workspace
	@for name in $(OAR_NAMES); do ln -sf oar $(RELEASE)/$$name; done

prepare: ## install the programs that the laboratory needs, if any is missing
	@scripts/prepare lab

prepare-test: ## the same, with what the tests need besides
	@scripts/prepare test

prepare-bench: ## the same, with the peers that `make bench-net` compares with
	@scripts/prepare bench $(TARGET)/tools

doctor: build ## try what the laboratory needs of this machine
	@$(RELEASE)/netsim doctor || { \
	  echo 'This machine cannot run the laboratory yet: see the lines marked MISSING.' >&2; exit 1; }

install: build ## copy the programs to PREFIX/bin (default ~/.local/bin), with oar's manual and completions for bash
	install -d $(DESTDIR)$(PREFIX)/bin
	install $(addprefix $(RELEASE)/,$(BINARIES)) $(DESTDIR)$(PREFIX)/bin
	@for name in $(OAR_NAMES); do ln -sf oar $(DESTDIR)$(PREFIX)/bin/$$name; done
	$(RELEASE)/oar man $(DESTDIR)$(PREFIX)/share/man/man1
	install -d $(DESTDIR)$(PREFIX)/$(BASH_COMPLETIONS)
	$(RELEASE)/oar completions bash > $(DESTDIR)$(PREFIX)/$(BASH_COMPLETIONS)/oar
	@for name in $(OAR_NAMES); do ln -sf oar $(DESTDIR)$(PREFIX)/$(BASH_COMPLETIONS)/$$name; done
