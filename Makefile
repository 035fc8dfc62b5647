# All commands of a developer. 'make' alone lists the targets.
SHELL       := /bin/sh
LOCAL_DIR   ?= .local
BIN         := $(LOCAL_DIR)/bin
FUZZTIME    ?= 30s
COMMA       := ,
export LOCAL_DIR
# The linter's cache is per clone: it stores paths, so another clone with the same files would see the paths of this one, and
# exclusions by path would not apply.
export GOLANGCI_LINT_CACHE := $(abspath $(LOCAL_DIR))/cache/golangci-lint
# One set of flags for all builds: with another set everything is built again. Without the tables of a debugger, which take a fifth of a
# first build; stack traces and profiles need none. For a debugger: make build DEBUG=1.
export GOFLAGS := -trimpath -buildvcs=false$(if $(DEBUG),, -gcflags=all=-dwarf=false -ldflags=-w)
export CGO_ENABLED := 1

# What marketdata_build_info says. It is passed to the linker alone: another commit links again, and compiles nothing.
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
REVISION ?= $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
STAMP = $(if $(DEBUG),,-w )-X marketdata/shared/metric.version=$(VERSION) -X marketdata/shared/metric.revision=$(REVISION)

# The programs are linked statically if the C compiler supports it: against musl, as in deploy/Dockerfile, if musl-gcc is installed
# (Debian: musl-tools), else against glibc. Without glibc's loader and start-up a function starts a fifth sooner.
ifneq ($(shell command -v musl-gcc),)
LINK = CC=musl-gcc go build -tags musl -ldflags '$(STAMP) -linkmode external -extldflags "-static"'
else ifeq ($(shell printf 'int main(void) { return 0; }' | $${CC:-cc} -static -Wl,--no-warnings -x c - -o /dev/null 2>/dev/null && echo yes),yes)
LINK = go build -ldflags '$(STAMP) -linkmode external -extldflags "-static -Wl,--no-warnings"'
else
LINK = go build -ldflags '$(STAMP)'
endif

GOLANGCI := v2.12.2
GOVULNCHECK := v1.9.0
FUNCTIONS := $(patsubst functions/%/main.go,%,$(wildcard functions/*/main.go))
PROGRAMS := ./local $(addprefix ./functions/,$(FUNCTIONS))

# go build -v names each package that it compiles; everything else that it prints is an error.
define PROGRESS
n=0; while IFS= read -r line; do
	case "$$line" in
	"exit "*) exit "$${line#exit }" ;;
	*[!A-Za-z0-9_./~-]*) printf '%s\n' "$$line" >&2 ;;
	*) n=$$((n + 1)); [ $$((n % 100)) -ne 0 ] || echo "  $$n of $$1 packages compiled" ;;
	esac
done
endef
export PROGRESS

.DEFAULT_GOAL := help
.PHONY: help run build test screenshots test-unit race lint fmt bench load overload sim chaos mutants fuzz cover incident images manifests-check vuln clean-local verify check tools layout

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

tools: # check the build tools, and say how to install missing ones
	@command -v go >/dev/null || { echo "make: Go is not installed: see https://go.dev/doc/install (1.26 or newer)" >&2; exit 1; }
	@command -v $${CC:-cc} >/dev/null || { echo "make: no C compiler: install one (Debian: apt-get install gcc libc6-dev, macOS: xcode-select --install)" >&2; exit 1; }

build: tools ## build the functions and the local runtime into $(LOCAL_DIR)/bin
	@mkdir -p $(BIN)
	@echo "building the functions and the local runtime (the first time takes a few minutes) …"
	@{ $(LINK) -v -o $(BIN)/ $(PROGRAMS) 2>&1; echo "exit $$?"; } | sh -c "$$PROGRESS" progress "$$(go list -deps $(PROGRAMS) | wc -l)"
	@echo "built into $(BIN)"

run: build ## start everything on this machine; Ctrl-C stops it (LIVE=1: real providers, TRACES=1: traces at /traces)
	@exec env $(if $(LIVE),LIVE=$(LIVE)) $(if $(DEMO),DEMO=$(DEMO)) $(if $(COPIES),COPIES=$(COPIES)) $(if $(TRACES),TRACES=$(TRACES)) $(BIN)/local

# A broker in Java needs a processor of its own: then one package is tested at a time.
test: build ## run all tests on Postgres, Redis and Kafka, which it starts and stops (BROWSER=1: also those of the pages, in Chromium; KAFKA=apache or apache-secure: on Apache Kafka, which needs Java and Maven; PGBOUNCER=1: the whole stacks behind PgBouncer)
	@$(BIN)/local exec -- env E2E_BIN_DIR=$(abspath $(BIN)) go test -tags integration$(if $(BROWSER),$(COMMA)browser)$(if $(filter apache%,$(KAFKA)),$(COMMA)apache -p 1) -count=1 -shuffle=on -timeout 40m $(TESTFLAGS) ./...

screenshots: build ## take the pictures of the README anew, and those of every view into $(LOCAL_DIR)/screenshots (needs Chromium)
	@mkdir -p $(LOCAL_DIR)/screenshots
	@$(BIN)/local exec -- env E2E_BIN_DIR=$(abspath $(BIN)) SCREENSHOTS=$(abspath $(LOCAL_DIR))/screenshots \
		go test -tags integration,browser -count=1 -run 'View.*IsAccessible' ./local/e2e
	@for scheme in light dark; do \
		cp $(LOCAL_DIR)/screenshots/live-bars-1280-$$scheme.png deploy/screenshots/live-$$scheme.png; \
		cp $(LOCAL_DIR)/screenshots/causes-1280-$$scheme.png deploy/screenshots/dead-letters-$$scheme.png; \
	done

test-unit: tools ## run the tests that need no services
	@go test -p 4 -short -vet=off ./... # cached: vet is part of "make lint", shuffling of "make test"

race: build ## run all tests under the race detector
	@$(BIN)/local exec -- env E2E_BIN_DIR=$(abspath $(BIN)) go test -race -tags integration -count=1 ./...

$(LOCAL_DIR)/tools/golangci-lint-$(GOLANGCI):
	@echo "building golangci-lint $(GOLANGCI) (once) …"
	@mkdir -p $(LOCAL_DIR)/tools
	@GOBIN=$(abspath $(LOCAL_DIR)/tools) CGO_ENABLED=0 go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI)
	@mv $(LOCAL_DIR)/tools/golangci-lint $@

layout: # only known files are tracked at the top level, no programs left by "go build"
	@! git ls-files | cut -d/ -f1 | sort -u | grep -vxE '\..*|functions|shared|deploy|knative|local|docker-compose\.yml|go\.(mod|sum)|Makefile|README\.md|LICENSE' || \
		{ echo "make: these do not belong at the top level" >&2; exit 1; }

lint: layout tools $(LOCAL_DIR)/tools/golangci-lint-$(GOLANGCI) ## run golangci-lint with the rules of .golangci.yml
	@$(LOCAL_DIR)/tools/golangci-lint-$(GOLANGCI) run ./...

fmt: $(LOCAL_DIR)/tools/golangci-lint-$(GOLANGCI) ## format the Go code
	@$(LOCAL_DIR)/tools/golangci-lint-$(GOLANGCI) fmt ./...

BENCH ?= .
bench: build ## run the benchmarks (BENCH=regexp, PKG=folders, BENCH_LARGE=1: also with 10 million points)
	@$(BIN)/local exec -durable -- env E2E_BIN_DIR=$(abspath $(BIN)) BENCH_LARGE=$(BENCH_LARGE) \
		go test -tags integration -run '^$$' -bench '$(BENCH)' -benchmem -timeout 60m $(or $(PKG),./...)

ROWS ?=
load: build ## load-test the whole system, with references from the same run (SHORT=1, ROWS="backlog poll")
	@exec $(BIN)/local load $(if $(SHORT),-short) $(ROWS)

overload: build ## offer each route ten times what it sustains, for a minute, and 10,000 connections that send nothing (an hour; ROUTES='jobs|causes': only those)
	@exec $(BIN)/local load $(if $(ROUTES),-routes '$(ROUTES)') overload

sim: build ## play 60 days of followed histories, with all that may go wrong, on a simulated clock (SIM_SEEDS=100; SIM_SEED=17 plays one)
	@$(BIN)/local exec -- env E2E_BIN_DIR=$(abspath $(BIN)) SIM_SEEDS=$(or $(SIM_SEEDS),$(if $(SIM_SEED),1,100)) SIM_SEED=$(SIM_SEED) \
		go test -tags integration -count=1 -timeout 24h -run TestHistoriesHeal -v ./functions/poll/internal/simulation

chaos: build ## break a system of its own in all ways, under load, and check that nothing is lost (SEED=1 SCHEDULES=1 DURATION=3m)
	@exec $(BIN)/local chaos -seed $(or $(SEED),1) -schedules $(or $(SCHEDULES),1) -duration $(or $(DURATION),3m)

# The packages that make the promises of the README, and whose own tests prove them.
PROMISES := $(addprefix ./functions/compute-ma/internal/,series store averages stream) $(addprefix ./functions/get-latest/internal/,flight latest history) \
	$(addprefix ./functions/poll/internal/,jobs schedule fetch) \
	$(addprefix ./shared/,ingest ratelimit ratelimit/budget deadletter priceevent timerange coalesce pricecache market fault)

mutants: build ## change the code in small ways, and list the changes that its tests do not notice (PKG=packages, BUDGET=1h, SEED=1, ONLY=pattern)
	@$(BIN)/local exec -- env E2E_BIN_DIR=$(abspath $(BIN)) go run ./shared/testenv/mutants -budget $(or $(BUDGET),1h) -seed $(or $(SEED),1) $(if $(ONLY),-only '$(ONLY)') $(or $(PKG),$(PROMISES))

# Without guidance, a binary is not instrumented, and ten times as fast. It goes on from what runs with guidance found.
UNGUIDED = -timeout 0 -args -test.fuzz "^$$target$$" -test.fuzztime $(FUZZTIME) -test.fuzzcachedir "$$(go env GOCACHE)/fuzz/marketdata/$$dir"
fuzz: tools ## fuzz every decoder, each for FUZZTIME (30s, or a number of executions: FUZZTIME=10000000x); FUZZ=unguided: after a first run, ten times as fast
	@for file in $$(grep -l --include='*_test.go' -r '^func Fuzz' functions shared local); do \
		dir=$$(dirname $$file); \
		for target in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\).*/\1/p' $$file); do \
			go test -C $$dir -run '^$$' $(if $(filter unguided,$(FUZZ)),$(UNGUIDED),-fuzz "^$$target$$" -fuzztime $(FUZZTIME)) || exit 1; \
		done; \
	done

cover: build ## report test coverage by package
	@$(BIN)/local exec -- env E2E_BIN_DIR=$(abspath $(BIN)) go test -tags integration -count=1 -cover ./...

incident: build ## play an incident on the running stack: shuffled and wrong prices, poison, an outage
	@exec $(BIN)/local incident

images: ## build the container images of all programs (REGISTRY=marketdata TAG=latest)
	@for program in $(addprefix functions/,$(FUNCTIONS)) deploy/migrate local; do \
		docker build -q -f deploy/Dockerfile --build-arg PROGRAM=./$$program --build-arg VERSION=$(or $(TAG),$(VERSION)) --build-arg REVISION=$(REVISION) -t $(or $(REGISTRY),marketdata)/$$(basename $$program):$(or $(TAG),latest) . || exit 1; \
	done

# deploy/validate is a module of its own, with Knative's types: minutes to build the first time, seconds afterwards. Not cached, because
# the files that it reads are outside of its module.
manifests-check: tools ## compare the manifests with the code, render them, and validate them with the types of Knative
	@go test -count=1 ./deploy
	@cd deploy/validate && go mod tidy -diff && go test -count=1 -vet=off ./...
	@echo "the manifests match the code, and Knative accepts them"

vuln: tools ## check the dependencies for known vulnerabilities
	@go run golang.org/x/vuln/cmd/govulncheck@$(GOVULNCHECK) ./...

clean-local: ## remove the local runtime's data and builds
	@if [ -f $(LOCAL_DIR)/postgres.elsewhere ]; then rm -rf "$$(cat $(LOCAL_DIR)/postgres.elsewhere)"; fi
	@rm -rf $(LOCAL_DIR)
	@echo "removed $(LOCAL_DIR)"

verify: ## check that modules are tidy, and run a short load test and a short schedule of faults
	@go mod tidy -diff
	@$(MAKE) --no-print-directory load SHORT=1
	@$(MAKE) --no-print-directory chaos DURATION=45s

check: test lint verify manifests-check ## run what CI runs
