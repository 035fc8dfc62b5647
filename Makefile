# Everything a developer runs. 'make' alone lists the targets.
SHELL       := /bin/sh
LOCAL_DIR   ?= .local
BIN         := $(LOCAL_DIR)/bin
FUZZTIME    ?= 30s
COMMA       := ,
export LOCAL_DIR
# The linter's own cache keeps the paths of the tree that filled it: another clone with the same files would be shown those,
# and none of the exclusions by path would apply.
export GOLANGCI_LINT_CACHE := $(abspath $(LOCAL_DIR))/cache/golangci-lint
# One set of flags everywhere: another set would build the C parts anew.
export GOFLAGS := -trimpath -buildvcs=false
export CGO_ENABLED := 1

# The programs are linked statically where the C compiler can: against musl, as deploy/Dockerfile does, where musl-gcc is
# there (Debian: musl-tools), else against glibc. Without glibc's loader and start-up a function starts a fifth sooner.
ifneq ($(shell command -v musl-gcc),)
LINK := CC=musl-gcc go build -tags musl -ldflags '-linkmode external -extldflags "-static"'
else ifeq ($(shell printf 'int main(void) { return 0; }' | $${CC:-cc} -static -Wl,--no-warnings -x c - -o /dev/null 2>/dev/null && echo yes),yes)
LINK := go build -ldflags '-linkmode external -extldflags "-static -Wl,--no-warnings"'
else
LINK := go build
endif

GOLANGCI := v2.12.2
GOVULNCHECK := v1.9.0
FUNCTIONS := $(patsubst functions/%/main.go,%,$(wildcard functions/*/main.go))

.DEFAULT_GOAL := help
.PHONY: help run build test test-unit race lint fmt bench load fuzz cover incident images manifests-check vuln clean-local check tools layout

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

tools: # what a build needs, each with its remedy
	@command -v go >/dev/null || { echo "make: Go is not installed: see https://go.dev/doc/install (1.26 or newer)" >&2; exit 1; }
	@command -v $${CC:-cc} >/dev/null || { echo "make: no C compiler: install one (Debian: apt-get install gcc libc6-dev, macOS: xcode-select --install)" >&2; exit 1; }

build: tools ## build the functions and the local runtime into $(LOCAL_DIR)/bin
	@mkdir -p $(BIN)
	@echo "building the functions and the local runtime (the first time takes a minute or two) …"
	@$(LINK) -o $(BIN)/ ./local $(addprefix ./functions/,$(FUNCTIONS))
	@echo "built into $(BIN)"

run: build ## start everything on this machine; Ctrl-C stops it (LIVE=1: real providers)
	@exec env $(if $(LIVE),LIVE=$(LIVE)) $(if $(DEMO),DEMO=$(DEMO)) $(if $(COPIES),COPIES=$(COPIES)) $(BIN)/local

test: build ## every test, on real Postgres, Redis and Kafka that it starts and stops (BROWSER=1: the page's, too, in Chromium)
	@$(BIN)/local exec -- env E2E_BIN_DIR=$(abspath $(BIN)) go test -tags integration$(if $(BROWSER),$(COMMA)browser) -count=1 -shuffle=on $(TESTFLAGS) ./...

test-unit: tools ## the tests that need nothing
	@go test -p 4 -short -vet=off ./... # vet is part of lint, shuffling of "make test": so what did not change is not run again

race: build ## every test under the race detector
	@$(BIN)/local exec -- env E2E_BIN_DIR=$(abspath $(BIN)) go test -race -tags integration -count=1 ./...

$(LOCAL_DIR)/tools/golangci-lint-$(GOLANGCI):
	@echo "building golangci-lint $(GOLANGCI) (once) …"
	@mkdir -p $(LOCAL_DIR)/tools
	@GOBIN=$(abspath $(LOCAL_DIR)/tools) CGO_ENABLED=0 go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI)
	@mv $(LOCAL_DIR)/tools/golangci-lint $@

layout: # what is tracked at the top is what belongs there: no program that "go build" left
	@! git ls-files | cut -d/ -f1 | sort -u | grep -vxE '\..*|functions|shared|deploy|knative|local|docker-compose\.yml|go\.(mod|sum)|Makefile|README\.md|LICENSE' || \
		{ echo "make: these do not belong at the top level" >&2; exit 1; }

lint: layout tools $(LOCAL_DIR)/tools/golangci-lint-$(GOLANGCI) ## golangci-lint with the house rules
	@$(LOCAL_DIR)/tools/golangci-lint-$(GOLANGCI) run ./...

fmt: $(LOCAL_DIR)/tools/golangci-lint-$(GOLANGCI) ## format the Go code
	@$(LOCAL_DIR)/tools/golangci-lint-$(GOLANGCI) fmt ./...

BENCH ?= .
bench: build ## benchmarks of the hot paths (BENCH=regexp, PKG=folders, BENCH_LARGE=1: also on 10 million points)
	@$(BIN)/local exec -durable -- env E2E_BIN_DIR=$(abspath $(BIN)) BENCH_LARGE=$(BENCH_LARGE) \
		go test -tags integration -run '^$$' -bench '$(BENCH)' -benchmem -timeout 60m $(or $(PKG),./...)

ROWS ?=
load: build ## what the whole system carries under load, beside references of the same run (SHORT=1, ROWS="backlog poll")
	@exec $(BIN)/local load $(if $(SHORT),-short) $(ROWS)

fuzz: tools ## fuzz every decoder, each for FUZZTIME
	@for file in $$(grep -l --include='*_test.go' -r '^func Fuzz' functions shared local); do \
		for target in $$(sed -n 's/^func \(Fuzz[A-Za-z]*\).*/\1/p' $$file); do \
			go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) ./$$(dirname $$file) || exit 1; \
		done; \
	done

cover: build ## test coverage by package
	@$(BIN)/local exec -- env E2E_BIN_DIR=$(abspath $(BIN)) go test -tags integration -count=1 -cover ./...

incident: build ## play a bad day on the stack that is up: disorder, wrong prices, poison, an outage
	@exec $(BIN)/local incident

images: ## container images of every program (TAG=latest)
	@for program in $(addprefix functions/,$(FUNCTIONS)) deploy/migrate local; do \
		docker build -q -f deploy/Dockerfile --build-arg PROGRAM=./$$program -t marketdata/$$(basename $$program):$(or $(TAG),latest) . || exit 1; \
	done

manifests-check: ## manifests against the code, and rendered where kubectl is there
	@go test -count=1 ./deploy
	@if command -v kubectl >/dev/null; then for k in knative/base knative/overlays/production; do kubectl kustomize $$k >/dev/null || exit 1; done; fi
	@echo "manifests are what the code expects"

vuln: tools ## known vulnerabilities of what the programs call
	@go run golang.org/x/vuln/cmd/govulncheck@$(GOVULNCHECK) ./...

clean-local: ## remove the local runtime's data and builds
	@if [ -f $(LOCAL_DIR)/postgres.elsewhere ]; then rm -rf "$$(cat $(LOCAL_DIR)/postgres.elsewhere)"; fi
	@rm -rf $(LOCAL_DIR)
	@echo "removed $(LOCAL_DIR)"

check: lint test ## what CI runs: linters, every test, manifests, tidy modules, and a guard against collapse
	@go mod tidy -diff
	@$(MAKE) --no-print-directory manifests-check
	@$(MAKE) --no-print-directory load SHORT=1
