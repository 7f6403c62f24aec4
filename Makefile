# Targets for people and for CI. `make test` is everything that must be green.
SHELL := /bin/bash
GO    ?= go
BIN   := $(CURDIR)/bin

.PHONY: help test test-fips setup check unit race long simulate simulate-short soak fmt vet staticcheck tidy cross fuzz fuzz-short bench-backup bench-blob bench-postgres bench-scale clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "%-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

test: setup servers check race test-fips long simulate-short ## everything: formatting, vet, staticcheck, tidy, cross-builds, race tests, FIPS tests, long tests, simulations

setup: ## install what the tests need, where that is possible
	@.ci/setup

servers: ## build the servers that the tests start in containers; minutes the first time
	@$(GO) run ./internal/testenv/prepare || test "$$CI" != true

check: fmt vet staticcheck tidy cross ## all checks that run no test

unit: ## the tests without the race detector, for a quick look
	$(GO) test ./...

race: ## all tests with the race detector
	$(GO) test -race -timeout 30m ./...

# Where Go allows approved algorithms only. Of backup these are the tests that
# are written for it, named TestFIPS...: most others use keys of age, which is
# refused here. Of the others all tests run. A package in which
# the pattern selects nothing fails.
FIPS_NAMED := ./backup
FIPS_WHOLE := ./provider ./provider/providertest ./retention
test-fips: ## the tests under GODEBUG=fips140=only
	@set -e; for p in $(FIPS_NAMED); do \
	  n=$$($(GO) test -list '^TestFIPS' $$p | grep -c '^TestFIPS' || true); \
	  if [ "$$n" -eq 0 ]; then echo "$$p: no test is called TestFIPS..."; exit 1; fi; \
	  ran=$$(GODEBUG=fips140=only $(GO) test -count=1 -v -run '^TestFIPS' $$p | tee /dev/stderr | grep -c '^--- PASS: TestFIPS' || true); \
	  if [ "$$ran" -ne "$$n" ]; then echo "$$p: $$ran of $$n tests passed under fips140=only"; exit 1; fi; done
	GODEBUG=fips140=only $(GO) test -count=1 $(FIPS_WHOLE)

# Those whose long form shows what the short one only samples: every crash
# point of the quickstart, every clause on every broken store, every byte of a
# repository flipped. A million keys in each store are left to make soak.
LONG := ./backup/postgres ./examples/quickstart ./provider/... ./retention ./dr
long: ## the long form of the tests that have to be run in full
	HOLDFAST_LONG=1 $(GO) test -timeout 30m -skip '^TestMillionKeys$$' $(LONG)
	@echo "the long form of ./backup, and beside it of ./backup/postgres/logical, which waits for servers"; \
	HOLDFAST_LONG=1 $(GO) test -timeout 30m -run 'TestOnServers/alone/(15|17)/(steps_fail|crash)' ./backup/postgres/logical & servers=$$!; \
	HOLDFAST_LONG=1 $(GO) test -timeout 30m -run 'TestEvery|TestPruneTidies|TestPruneCrash' ./backup; bad=$$?; \
	wait $$servers && exit $$bad
	cd internal/bench && $(GO) test ./...

# In two halves, so that two cores are used: each is one thread, because a seed
# must decide everything.
SEEDS ?= 10000
simulate: ## 10,000 simulated stores with backups, prunes and copies beside each other, 5 minutes on 2 cores; ends in one line; SEEDS=1500 for fewer
	@mkdir -p $(BIN) && $(GO) test -c -o $(BIN)/simulate ./backup && cd backup && half=$$(( $(SEEDS) / 2 )) && \
	  { $(BIN)/simulate -test.run '^TestSimulate$$' -test.timeout 3h -seed 1 -seeds $$half & \
	    $(BIN)/simulate -test.run '^TestSimulate$$' -test.timeout 3h -seed $$(( half + 1 )) -seeds $$(( $(SEEDS) - half )); wait; } | \
	  awk '/^simulate: seeds/ { s += $$3; v += $$5; next } /^(FAIL|--- FAIL|panic)/ { bad = 1 } !/^(PASS|ok)/ { print } \
	    END { print "simulate: seeds", s+0, "violations", v+0; exit bad || s < $(SEEDS) || v > 0 }'

simulate-short: ## so many that a mistake shows, and that mistakes made on purpose do
	@$(MAKE) --no-print-directory simulate SEEDS=1500
	@cd backup && HOLDFAST_LONG=1 $(BIN)/simulate -test.run '^TestSimulate(FindsBugs|Replays)$$'

soak: fuzz-short ## the long form of all tests, an hour and more: 130,000 simulated failovers; a little fuzzing, which may find something new any day
	HOLDFAST_LONG=1 $(GO) test -timeout 3h ./...

fmt:
	@bad=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$bad" ]; then echo "gofmt these:"; echo "$$bad"; exit 1; fi; echo "gofmt: clean"

vet:
	$(GO) vet ./...
	cd internal/bench && $(GO) vet ./...

$(BIN)/staticcheck: internal/tools/go.mod internal/tools/go.sum
	cd internal/tools && $(GO) build -o $@ honnef.co/go/tools/cmd/staticcheck

staticcheck: $(BIN)/staticcheck
	$(BIN)/staticcheck ./...
	cd internal/bench && $(BIN)/staticcheck ./...

tidy: ## go.mod and go.sum say exactly what is used
	$(GO) mod tidy -diff
	cd internal/bench && $(GO) mod tidy -diff
	cd internal/tools && $(GO) mod verify >/dev/null

cross: ## the whole tree compiles for macOS and Windows, tests included
	GOOS=darwin GOARCH=arm64 $(GO) vet ./...
	GOOS=windows GOARCH=amd64 $(GO) vet ./...

FUZZTIME ?= 10s
FUZZPKGS ?= ./...
fuzz: ## every fuzz target for FUZZTIME each
	@set -e; for p in $$($(GO) list $(FUZZPKGS)); do \
	  for f in $$($(GO) test -list '^Fuzz' $$p | grep '^Fuzz' || true); do \
	    echo "== $$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x $$p; done; done

fuzz-short: ## what reads a repository, for a second each, about a minute
	@$(MAKE) --no-print-directory fuzz FUZZTIME=1s FUZZPKGS=./backup/...

BENCH ?=
bench-backup: ## compare with restic and borg, BENCH='-size 300 -rounds 3' for less; Linux, and Debian for the two
	cd internal/bench && $(GO) build -o $(BIN)/bench . && $(BIN)/bench $(BENCH)

bench-blob: ## compare provider/aws with rclone on one S3 server, near and 20 ms away; BENCH='-rounds 1 -small 500' for less; Linux, and Debian for rclone
	cd internal/bench && $(GO) build -o $(BIN)/bench . && $(BIN)/bench blob $(BENCH)

bench-postgres: ## compare backup/postgres with pgBackRest and pg_basebackup, in one container; BENCH='-size 300 -rounds 1' for less; Docker
	cd internal/bench && CGO_ENABLED=0 $(GO) build -o $(BIN)/bench . && $(BIN)/bench postgres -image $$(cd ../.. && $(GO) run ./internal/testenv/prepare postgres) $(BENCH)

SCALE ?=
CHUNKS ?= 50000000
bench-scale: ## how each step grows: a million small files, 50 million chunks (which take 4 GB); SCALE='-files 100000' CHUNKS=1000000 for less
	HOLDFAST_CHUNKS=$(CHUNKS) $(GO) test -v -count=1 -timeout 1h -run '^TestScaleOfChunks$$' ./backup
	cd internal/bench && $(GO) build -o $(BIN)/bench . && $(BIN)/bench scale $(SCALE)

clean:
	rm -rf $(BIN)
