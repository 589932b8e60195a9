# Needs Go and, through "make deps", PostgreSQL's server and client programs.
# Variables: GO, FUZZTIME (a duration, or a count such as 10000x), PKG.

GO       ?= go
PKG      ?=
FUZZTIME ?= 30s
BIN      := bin/crossfade

# Arguments of bench/proxy and bench/copy, such as "-rounds 9 -clients 16": see its -help.
BENCHFLAGS ?=

# Tests start real servers: two packages at a time keep them from starving one
# another, and the timeouts are for a slow machine with two cores.
TESTFLAGS := -p 2 -timeout 80m
E2EFLAGS  := -tags failpoint -p 1 -timeout 60m

# The build carries the commit only where git lets us read it: in a checkout
# that belongs to somebody else it does not.
BUILDVCS := $(shell git rev-parse --git-dir >/dev/null 2>&1 && echo auto || echo false)

.DEFAULT_GOAL := help
.PHONY: help deps build test race e2e e2e/short e2e-drivers matrix bench bench-link bench-proxy bench-proxy-idle bench-copy bench-follow lint fuzz demo clean

help: ## Print this list
	@echo "Crossfade: moves a live PostgreSQL database to Neon."
	@echo
	@awk -F ':.*## ' '/^[a-z0-9\/-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

deps: ## Install PostgreSQL's programs if they are missing
	@$(GO) run ./internal/lab/install pg_cron

build: ## Build bin/crossfade
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=$(BUILDVCS) -o $(BIN) ./cmd/crossfade

test: deps ## Run all tests, of the whole-system ones a sample (PKG=./path/... for some)
	$(GO) test $(TESTFLAGS) $(or $(PKG),-short ./...)

race: deps ## Run all tests under the race detector (needs a C compiler)
	$(GO) test -race -p 1 -timeout 90m $(or $(PKG),./...)

e2e: deps ## Run all whole-system tests, faults included
	$(GO) test $(E2EFLAGS) ./e2e/...

e2e/short: deps ## Run a sample of the whole-system tests
	$(GO) test -short $(E2EFLAGS) ./e2e/...

e2e-drivers: deps ## Install drivers of many languages, and move their sessions to and fro
	GO="$(GO)" e2e/drivers/install
	CROSSFADE_DRIVERS=all $(GO) test -count 1 -timeout 30m -v -run '^TestNoDriver' ./e2e/drivers

# Servers of other majors are fetched once, by npm, and the pg_dump of a newer Debian
# by apt-get; neither is installed. MATRIXDIR is where they are kept.
MATRIXDIR ?= $(shell $(GO) run ./internal/lab/fetchpg -where)

matrix: deps ## Move the samples between major versions, with servers that are fetched
	$(GO) run ./internal/lab/fetchpg -dir $(MATRIXDIR) -client 17 12 13 14 15 16 17 18
	CROSSFADE_MATRIX=$(MATRIXDIR) CROSSFADE_MATRIX_PAGE=$(CURDIR)/docs/operate/versions.md \
		$(GO) test -tags failpoint -count 1 -timeout 60m -v -run '^TestMatrix' ./e2e

bench: deps ## Run the benchmarks
	$(GO) test -run '^$$' -bench . -benchmem -p 1 -timeout 30m $(or $(PKG),./...)

bench-link: deps ## Measure how full a copy keeps a line of 20 Mbit/s and 80 ms (BENCHFLAGS="-jobs 8")
	$(GO) run ./bench/link $(BENCHFLAGS)

bench-proxy: deps ## Measure the proxy against PgBouncer and HAProxy (BENCHFLAGS="-rounds 9")
	@$(GO) run ./internal/lab/install pgbouncer haproxy
	$(GO) run ./bench/proxy $(BENCHFLAGS)

bench-proxy-idle: deps ## Measure the memory of 1,000 idle sessions
	$(GO) run ./bench/proxy -idle $(BENCHFLAGS)

bench-copy: deps build ## Measure the copy against pg_dump, pgcopydb and psql (BENCHFLAGS="-scale 20")
	$(GO) run ./bench/copy $(BENCHFLAGS)

bench-follow: deps build ## Measure what following applies and how long a cutover pauses (BENCHFLAGS="-before OLDER")
	$(GO) run ./bench/follow $(BENCHFLAGS)

# The product, demo included, builds for these as well as for the machine at hand.
PLATFORMS ?= darwin/arm64

lint: ## Check format, vet and staticcheck, and that the product builds for other platforms
	@unformatted=$$(gofmt -l .); if [ -n "$$unformatted" ]; then echo "not formatted, run gofmt -w:"; echo "$$unformatted"; exit 1; fi
	$(GO) vet ./...
	$(GO) vet -tags failpoint ./...
	$(GO) tool staticcheck ./...
	$(GO) tool staticcheck -tags failpoint ./...
	@for p in $(PLATFORMS); do echo "build for $$p"; \
		CGO_ENABLED=0 GOOS=$${p%/*} GOARCH=$${p#*/} $(GO) build -buildvcs=false -o /dev/null ./cmd/crossfade || exit 1; done

fuzz: ## Fuzz every target for FUZZTIME
	@.ci/fuzz $(FUZZTIME)

demo: deps build ## Migrate and cut over two local clusters under load
	$(BIN) demo

clean: ## Remove what was built
	rm -rf bin
