# `make` lists the targets.

MODULES  := events sql services
PACKAGES := ./events/... ./sql/... ./services/...
COMMANDS := ./services/cardwire ./services/views ./services/webhooks ./services/deliverer

SCHEDULES = 100000

# The race detector needs cgo and a C compiler. RACE=0 switches it off, RACE=1 insists on it.
RACE = $(shell test "$$(go env CGO_ENABLED)" = 1 && command -v $$(go env CC | cut -d' ' -f1) >/dev/null && echo 1 || echo 0)

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: dev
dev: ## run everything: make dev ADDR=127.0.0.1:8080 DATA=.data (the defaults; LOG=info shows more)
	@go build -o .bin/cardwire ./services/cardwire
	@exec .bin/cardwire dev

.PHONY: test
test: ## run all tests, with the race detector if a C compiler is there (RACE=0: without; ARGS='-run X -v')
	go test $(if $(filter 1,$(RACE)),-race) $(ARGS) $(PACKAGES)

.PHONY: bench
bench: ## measure the pipeline over real processes (ARGS='--scenario one,half-dead'; --help: what can be set)
	go run ./services/e2e/bench $(ARGS)

# Without the race detector, and with a heap that is let grow: it is throughput that counts here.
.PHONY: faultsim
faultsim: ## run the deliverer through schedules of faults in virtual time (SCHEDULES=100000; ARGS='-seed 7' for one)
	GOGC=800 go test -count=1 -timeout 30m -run '^TestSimulatedSchedules$$' ./services/deliverer/deliver -schedules $(SCHEDULES) -v $(ARGS)
.PHONY: crashlab
crashlab: ## break the pipeline by seed and check what came of it: make crashlab SEEDS=n (ARGS='--help': what can be set)
	go run ./services/e2e/crashlab --seeds $(or $(SEEDS),20) $(ARGS)

.PHONY: build
build: ## build all commands into .bin
	go build -o .bin/ $(COMMANDS)

.PHONY: generate
generate: .bin/sqlc ## generate Go from the SQL queries
	.bin/sqlc generate -f sql/sqlc.yaml

.PHONY: fmt
fmt: .bin/gofumpt ## format all Go files
	.bin/gofumpt -w $(MODULES)

.PHONY: lint
lint: ## check format, vet, staticcheck, generated code, module files
	.ci/run format vet staticcheck generated tidy

.PHONY: ci
ci: ## do what CI does: installs what is missing, checks, tests, fuzzes
	.ci/run

.PHONY: clean
clean: ## remove what was built (the data in .data stays)
	rm -rf .bin

# The tools are pinned in tools/go.mod, which is no part of the workspace.
.bin/sqlc:        PACKAGE := github.com/sqlc-dev/sqlc/cmd/sqlc
.bin/gofumpt:     PACKAGE := mvdan.cc/gofumpt
.bin/staticcheck: PACKAGE := honnef.co/go/tools/cmd/staticcheck
.bin/deadcode:    PACKAGE := golang.org/x/tools/cmd/deadcode
.bin/oapi-codegen: PACKAGE := github.com/oapi-codegen/oapi-codegen/v2/cmd/oapi-codegen
.bin/sqlc .bin/gofumpt .bin/staticcheck .bin/deadcode .bin/oapi-codegen: tools/go.mod tools/go.sum
	GOWORK=off GOBIN=$(CURDIR)/.bin go -C tools install $(PACKAGE)
	@touch $@
