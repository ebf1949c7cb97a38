# pg_courier: build, install, test.  `make help` lists the targets.
#
# Everything is built out of tree: C objects, the Go engine, the extension
# script and the control file under build/, the sidecar in bin/.  C goes
# through PGXS in scripts/pgxs.mk, a second make, so that `make deps` works
# on a machine that has no PGXS yet.

# The one version: control file, SQL script name, C and Go all get it here.
VERSION = 0.1.0

PG_CONFIG ?= pg_config
GO ?= go
DESTDIR ?=

export PG_CONFIG GO

# The parts of the extension script, in the order they depend on each other.
SQL_PARTS = schema configuration queue capture row_filter transport node \
	replication_set replication_set_table capture_trigger \
	subscription_options subscription_since subscription copy subscription_end lease dead_letter \
	rotation wait dead_letter_retry ship statistics status queue_status node_health \
	housekeeping metrics worker sequence sequence_synchronize \
	copy_transport structure \
	dropped_table ddl ddl_auto compare_schemas \
	node_link copy_table copy_table_describe copy_table_check copy_table_chunk \
	copy_table_large copy_table_pull copy_table_push copy_table_open copy_table_end \
	merge_staging foreign_table foreign_server foreign_table_refresh \
	compare resend


SQL_FILES = $(SQL_PARTS:%=sql/%.sql)
SCRIPT = build/pg_courier--$(VERSION).sql
CONTROL = build/pg_courier.control
MODULE = build/pg_courier.so
ENGINE = build/pg_courier_engine.so
COURIER = bin/courier

# Where the Go binaries' sources are; a change in any of them rebuilds both.
GO_SOURCES = go.mod go.sum Makefile \
	$(shell find pkg ext/engine ext/include sidecar \( -name '*.go' ! -name '*_test.go' -o -name '*.h' -o -name '*.sql' \) 2>/dev/null)

# asyncpreemptoff: Go's preemption signal is SIGURG, PostgreSQL's latch
# wake-up; see ext/engine.  It cannot be set any other way in a c-shared
# library.
ENGINE_LDFLAGS = -X=runtime.godebugDefault=asyncpreemptoff=1 -X=main.version=$(VERSION)
GO_BUILD = $(GO) build -buildvcs=false -trimpath

PGXS_MAKE = $(MAKE) --no-print-directory -C build -f ../scripts/pgxs.mk \
	PG_CONFIG='$(PG_CONFIG)' DESTDIR='$(DESTDIR)' VERSION='$(VERSION)'

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.PHONY: all deps deps-go module install uninstall installed installcheck test lint demo bench bench-peers clean help FORCE

all: $(MODULE) $(ENGINE) $(SCRIPT) $(CONTROL) $(COURIER) ## build everything: build/ and bin/courier

deps: deps-go ## install what building and testing need (Debian); quick when nothing is missing

# The Go toolchain is only asked for when something of Go is to be built, so
# that `sudo make install` of a finished build does not need it.
deps-go:
	@scripts/deps.sh go

build/.deps: FORCE
	@scripts/deps.sh system
	@mkdir -p build && touch -a $@

deps: build/.deps

build bin:
	@mkdir -p $@

# Objects made for another server, or for another version, are made again.
build/server.stamp: FORCE | build/.deps build
	@echo "$(VERSION) $$($(PG_CONFIG) --version --includedir-server | tr '\n' ' ')" > $@.new
	@if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi

$(MODULE): build/server.stamp FORCE | build
	+@$(PGXS_MAKE) -s all-lib

$(ENGINE): $(GO_SOURCES) | build/.deps build
	@scripts/deps.sh go
	CGO_ENABLED=1 $(GO_BUILD) -buildmode=c-shared -tags netgo,osusergo \
		-ldflags='$(ENGINE_LDFLAGS)' -o $@ ./ext/engine
	@touch $@

$(COURIER): $(GO_SOURCES) | build/.deps bin
	@scripts/deps.sh go
	CGO_ENABLED=0 $(GO_BUILD) -ldflags='-X=main.version=$(VERSION)' -o $@ ./sidecar
	@touch $@

$(SCRIPT): $(SQL_FILES) Makefile | build
	@{ printf '%s\n' '\echo Use "CREATE EXTENSION pg_courier CASCADE" to load this file. \quit'; \
	   for part in $(SQL_FILES); do printf '\n'; cat $$part; done; } > $@

$(CONTROL): control/pg_courier.control.in Makefile | build
	@sed 's/@VERSION@/$(VERSION)/g' $< > $@

install: all ## install into PG_CONFIG's server by PGXS rules (DESTDIR is honoured); also courier, into its bindir
	+@$(PGXS_MAKE) install

uninstall: | build ## remove what install put there
	+@$(PGXS_MAKE) uninstall

# What a test runs against is what was just built: install it where that is
# allowed, and say what to type where it is not.
installed: all
	@scripts/installed.sh same || { \
	  scripts/installed.sh writable && $(MAKE) -s --no-print-directory install; }

installcheck: | build/.deps build ## run pg_regress against the running server that PGHOST, PGPORT and PGUSER name
	+@$(PGXS_MAKE) installcheck

test: installed ## everything: lint, unit tests, pg_regress with and without preloading, end to end
	@scripts/test.sh

lint: build/.deps ## gofmt and go vet
	@scripts/lint.sh

# exec: a signal to make reaches the program itself, which then cleans up.
demo: installed ## two local servers and the whole tutorial, live
	@$(GO_BUILD) -o build/demo ./demo
	@exec build/demo

bench: installed ## capture, catch-up and latency beside every peer that is installed; BENCH passes flags (-help)
	$(GO) run ./bench $(BENCH)

bench-peers: installed ## install the peers of the bench (Debian)
	@scripts/bench-peers.sh

clean: ## remove build/ and bin/
	rm -rf build bin

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@printf '\nVariables: PG_CONFIG=%s (which server), DESTDIR (staging root of install), BENCH (flags of the bench), GO=%s\n' '$(PG_CONFIG)' '$(GO)'

FORCE:
