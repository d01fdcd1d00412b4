# Ichor's build. Needs Go, make and git, nothing else: every other program is
# built from a pinned module under tools/. `make help` lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

# One set of flags for builds, tests and linters, whatever the caller's environment
# holds: the build cache is keyed by them, so a second set would compile every
# dependency twice. Version control stamping is off because it fails in a checkout
# of another user; VERSION carries the commit instead.
export GOFLAGS := -mod=readonly -trimpath -buildvcs=false
export GOWORK := off
export CGO_ENABLED := 0

GO      ?= go
BIN     := bin
TOOLBIN := $(BIN)/tools
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)

## ---------------------------------------------------------------- commands

# build-command PACKAGE: Go itself decides what is out of date.
define build-command
@mkdir -p $(BIN)
@printf '%s\n' '  build   $(@F)'
@$(GO) build -ldflags '-s -w -X main.version=$(VERSION)' -o $@ $(1)
endef

# What a demo and the suites run, and all of it.
SYSTEM   := $(addprefix $(BIN)/,ichor ichor-worker devcloud ichor-demo)
COMMANDS := $(SYSTEM) $(BIN)/ichor-grpcprovider

.PHONY: build FORCE
build: $(COMMANDS) ## Build the commands into bin
FORCE:

$(BIN)/ichor: FORCE
	$(call build-command,./starter)

$(BIN)/ichor-worker: FORCE
	$(call build-command,./worker)

$(BIN)/ichor-grpcprovider: FORCE
	$(call build-command,./grpcprovider)

$(BIN)/devcloud: FORCE
	$(call build-command,./testsuite/devcloud/cmd/devcloud)

$(BIN)/ichor-demo: FORCE
	$(call build-command,./testsuite/demo)

## ---------------------------------------------------------------- tools

# kubernetes_version is what the kube binaries report and what tools/kubernetes pins.
kubernetes_version := 1.36.3
kube_stamp := k8s.io/component-base/version
kube_ldflags := -X $(kube_stamp).gitVersion=v$(kubernetes_version) \
	-X $(kube_stamp).gitMajor=$(word 1,$(subst ., ,$(kubernetes_version))) \
	-X $(kube_stamp).gitMinor=$(word 2,$(subst ., ,$(kubernetes_version))) \
	-X $(kube_stamp).gitTreeState=clean

# build-tool MODULE PACKAGE [LDFLAGS]: a binary from the module tools/MODULE.
define build-tool
@mkdir -p $(TOOLBIN)
@printf '%s\n' '  tool    $(@F)'
@$(GO) build -C tools/$(1) -ldflags '-s -w $(3)' -o $(CURDIR)/$@ $(2)
@touch $@
endef

$(TOOLBIN)/temporal: tools/temporal/go.mod
	$(call build-tool,temporal,github.com/temporalio/cli/cmd/temporal,-X github.com/temporalio/cli/temporalcli.Version=1.5.1)

$(TOOLBIN)/kine: tools/kine/go.mod
	$(call build-tool,kine,github.com/k3s-io/kine,-X github.com/k3s-io/kine/pkg/version.Version=v0.16.4)

$(TOOLBIN)/kube-apiserver: tools/kubernetes/go.mod
	$(call build-tool,kubernetes,k8s.io/kubernetes/cmd/kube-apiserver,$(kube_ldflags))

$(TOOLBIN)/kube-controller-manager: tools/kubernetes/go.mod
	$(call build-tool,kubernetes,k8s.io/kubernetes/cmd/kube-controller-manager,$(kube_ldflags))

$(TOOLBIN)/kube-scheduler: tools/kubernetes/go.mod
	$(call build-tool,kubernetes,k8s.io/kubernetes/cmd/kube-scheduler,$(kube_ldflags))

$(TOOLBIN)/kwok: tools/kwok/go.mod
	$(call build-tool,kwok,sigs.k8s.io/kwok/cmd/kwok)

$(TOOLBIN)/talosctl: tools/talosctl/go.mod
	$(call build-tool,talosctl,github.com/siderolabs/talos/cmd/talosctl)

$(TOOLBIN)/tctl: tools/tctl/go.mod
	$(call build-tool,tctl,github.com/temporalio/tctl/cmd/tctl)

$(TOOLBIN)/golangci-lint: tools/golangci-lint/go.mod
	$(call build-tool,golangci-lint,github.com/golangci/golangci-lint/v2/cmd/golangci-lint)

$(TOOLBIN)/workflowcheck: tools/workflowcheck/go.mod
	$(call build-tool,workflowcheck,go.temporal.io/sdk/contrib/tools/workflowcheck)

$(TOOLBIN)/gofumpt: tools/gofumpt/go.mod
	$(call build-tool,gofumpt,mvdan.cc/gofumpt)

$(TOOLBIN)/protoc-gen-go: tools/protoc/go.mod
	$(call build-tool,protoc,google.golang.org/protobuf/cmd/protoc-gen-go)

$(TOOLBIN)/protoc-gen-go-grpc: tools/protoc/go.mod
	$(call build-tool,protoc,google.golang.org/grpc/cmd/protoc-gen-go-grpc)

$(TOOLBIN)/protoc: tools/protoc/go.mod tools/protoc/main.go
	$(call build-tool,protoc,.)

$(TOOLBIN)/gotestsum: tools/gotestsum/go.mod
	$(call build-tool,gotestsum,gotest.tools/gotestsum)

# The real autoscaler's core, once for each generation of the wire. The core links
# the provider that a tag names; the newer one brings its own.
AUTOSCALERS := $(addprefix $(TOOLBIN)/,cluster-autoscaler cluster-autoscaler-newwire)
$(AUTOSCALERS): tools/cluster-autoscaler/go.mod $(wildcard tools/cluster-autoscaler/*/*.go tools/cluster-autoscaler/newwire/wire/*.go)

$(TOOLBIN)/cluster-autoscaler:
	$(call build-tool,cluster-autoscaler,-tags externalgrpc ./oldwire)

$(TOOLBIN)/cluster-autoscaler-newwire:
	$(call build-tool,cluster-autoscaler,-tags civo ./newwire)

$(TOOLBIN)/helm: tools/helm/go.mod
	$(call build-tool,helm,helm.sh/helm/v4/cmd/helm)

# AWS' own cloud controller, which clusters on AWS are judged by and run under.
$(TOOLBIN)/aws-cloud-controller-manager: tools/aws-cloud-controller-manager/go.mod
	$(call build-tool,aws-cloud-controller-manager,k8s.io/cloud-provider-aws/cmd/aws-cloud-controller-manager)

# Ours, but with dependencies that the product does without.
$(TOOLBIN)/ichor-image: $(wildcard deploy/image/*.go deploy/image/go.*)
	@mkdir -p $(TOOLBIN)
	@printf '%s\n' '  tool    $(@F)'
	@$(GO) build -C deploy/image -o $(CURDIR)/$@ .

# What a demo starts, what tests start beyond it, and what only looks at source.
DEMO_TOOLS := $(addprefix $(TOOLBIN)/,temporal kine kube-apiserver kube-controller-manager kube-scheduler kwok)
AWS_TOOLS  := $(TOOLBIN)/aws-cloud-controller-manager
TEST_TOOLS := $(DEMO_TOOLS) $(AWS_TOOLS) $(addprefix $(TOOLBIN)/,talosctl tctl golangci-lint gotestsum)
PROTO_TOOLS := $(addprefix $(TOOLBIN)/,protoc protoc-gen-go protoc-gen-go-grpc)
LINT_TOOLS := $(addprefix $(TOOLBIN)/,golangci-lint workflowcheck gofumpt) $(PROTO_TOOLS)
DEPLOY_TOOLS := $(addprefix $(TOOLBIN)/,helm ichor-image kine kube-apiserver temporal cluster-autoscaler gotestsum)
TOOLS      := $(sort $(TEST_TOOLS) $(LINT_TOOLS) $(AUTOSCALERS) $(DEPLOY_TOOLS))

.PHONY: tools every-tool
tools: ## Build every tool into bin/tools (only what changed)
	@# Two at a time: one fetches its modules or is linked while the other compiles.
	+@$(MAKE) --no-print-directory -j2 --output-sync=target every-tool
every-tool: $(TOOLS)
	@:

## ---------------------------------------------------------------- checks

.PHONY: lint fmt generate
lint: $(LINT_TOOLS) ## Layers, determinism, format, vet and the usual mistakes
	$(TOOLBIN)/golangci-lint run ./...
	cd deploy/image && $(CURDIR)/$(TOOLBIN)/golangci-lint run --config $(CURDIR)/.golangci.yml ./...
	$(TOOLBIN)/workflowcheck ./workflows/...
	$(GO) vet ./...
	$(call protoc,-check)
	cmp testsuite/autoscaler/wire/wire.pb.go tools/cluster-autoscaler/newwire/wire/wire.pb.go
	cmp testsuite/autoscaler/wire/wire_grpc.pb.go tools/cluster-autoscaler/newwire/wire/wire_grpc.pb.go
	@bad=$$($(TOOLBIN)/gofumpt -l .); if [[ -n $$bad ]]; then printf 'run make fmt:\n%s\n' "$$bad"; exit 1; fi

# One at a time: two contracts may declare the same names.
PROTOS := $(wildcard internal/externalgrpc/*.proto testsuite/autoscaler/wire/*.proto)
protoc  = for p in $(PROTOS); do $(TOOLBIN)/protoc -plugins $(TOOLBIN) $(1) $$p; done
generate: $(PROTO_TOOLS) ## Generate the Go code of the .proto files
	$(call protoc)
	cp testsuite/autoscaler/wire/*.go tools/cluster-autoscaler/newwire/wire/

fmt: $(TOOLBIN)/gofumpt ## Format the Go code
	$(TOOLBIN)/gofumpt -l -w .

## ---------------------------------------------------------------- tests

# Suites that start whole systems; each has a target of its own and runs without
# the race detector, which would slow the programs around it too. Helper packages
# below them are tested with everything else.
SUITES := autoscaler chaos demo deploy e2e peers peers-aws peers-talos provider standalone

# What runs under the race detector, where there is a C compiler (it needs cgo).
# An SDK as large as EC2's is not worth compiling twice: what needs it runs without,
# with what is below it or alone.
RACE          := activities grpcprovider internal testsuite/canary testsuite/devcloud testsuite/proc workflows
NO_RACE       := internal/check internal/cloud/aws internal/cloud/registry testsuite/devcloud/machines
NO_RACE_ALONE := grpcprovider testsuite/devcloud/aws

TIMEOUT     ?= 20m
MODULE      := github.com/ichor-project/ichor
# $(shell) does not see exported variables before make 4.4, so the flags are named.
packages     = $(eval packages := $$(shell GOFLAGS= GOWORK=off $(GO) list ./...))$(or $(packages),$(error go list found no packages))
have_cc      = $(shell command -v "$$($(GO) env CC)")
below        = $(foreach p,$(1),$(MODULE)/$(p) $(MODULE)/$(p)/%)
unit         = $(filter-out $(addprefix $(MODULE)/testsuite/,$(SUITES)),$(packages))
unit_race    = $(if $(have_cc),$(filter-out $(call below,$(NO_RACE)) $(addprefix $(MODULE)/,$(NO_RACE_ALONE)),$(filter $(call below,$(RACE)),$(unit))))
unit_no_race = $(filter-out $(unit_race),$(unit))
GOTEST      := $(TOOLBIN)/gotestsum --format pkgname-and-test-fails --format-hide-empty-pkg --

# Which cloud the suites and the demos run on.
CLOUD ?= cloudscale
export ICHOR_TEST_CLOUD ?= $(CLOUD)
# Machines that exist become members of a group on cloudscale.ch only.
takes_over := $(if $(filter cloudscale,$(ICHOR_TEST_CLOUD)),./testsuite/standalone/...)

# suite PATTERN PACKAGES: runs the tests that match. A pattern that matches none is
# an error, since go test calls it success.
define suite
@$(GO) test -list '$(1)' $(2) | grep -c '^Test' >/dev/null || { echo 'no test matches $(1) in $(2)' >&2; exit 1; }
$(GOTEST) -count=1 -timeout $(TIMEOUT) -run '$(1)' $(2)
endef

.PHONY: test unit e2e e2e-aws autoscaler demos test-peers test-peers-aws matrix chaos chaos-aws chaos-upgrade never-lost bench
test: build unit e2e ## Unit, workflow, contract, replay and end-to-end tests

unit: $(TEST_TOOLS) ## Everything but the suites that start the whole system
	$(if $(unit_race),CGO_ENABLED=1 $(GOTEST) -race -timeout $(TIMEOUT) $(unit_race))
	$(if $(unit_no_race),$(GOTEST) -timeout $(TIMEOUT) $(unit_no_race))

e2e: TIMEOUT = 40m
e2e: $(SYSTEM) $(BIN)/ichor-grpcprovider $(TEST_TOOLS) ## End to end: real Temporal, real kube-apiserver, devcloud; CLOUD=aws
	$(call suite,^Test,./testsuite/e2e/... ./testsuite/provider/... $(takes_over))

autoscaler: TIMEOUT = 40m
autoscaler: $(SYSTEM) $(BIN)/ichor-grpcprovider $(TEST_TOOLS) $(AUTOSCALERS) ## The real Cluster Autoscaler drives the provider
	$(call suite,^Test,./testsuite/autoscaler/...)

demos: TIMEOUT = 30m
demos: $(SYSTEM) $(BIN)/ichor-grpcprovider $(TEST_TOOLS) $(TOOLBIN)/cluster-autoscaler ## The demonstrations of autoscaling and of upgrades, on each cloud
	$(call suite,^Test,./testsuite/demo/...)

# What a cloud has most to do with: all of it runs with make e2e CLOUD=aws.
E2E_AWS := ^Test(LifeOfACluster|FailureAtEachCreate|Upgrade|Canaries)$$
e2e-aws: export ICHOR_TEST_CLOUD = aws
e2e-aws: $(SYSTEM) $(TEST_TOOLS) ## Life, failures, an upgrade and secrets on AWS' stand-in, with AWS' own cloud controller
	$(call suite,$(E2E_AWS),./testsuite/e2e/...)

# Outages as long as real ones, ten minutes of each; too long for every run.
.PHONY: e2e-long
e2e-long: TIMEOUT = 60m
e2e-long: export ICHOR_OUTAGE = 10m
e2e-long: $(SYSTEM) $(BIN)/ichor-grpcprovider $(TEST_TOOLS) $(AUTOSCALERS) ## Outages of ten minutes under the real autoscaler
	$(call suite,^TestOutages,./testsuite/autoscaler/...)

test-peers: $(TEST_TOOLS) ## Foreign clients judge devcloud: the cloudscale SDK's suite, talosctl
	$(call suite,^Test,./testsuite/peers/... ./testsuite/peers-talos/...)

# Needs Debian's awscli, the one program that no module builds.
test-peers-aws: $(SYSTEM) $(TEST_TOOLS) ## AWS' own command line judges a cluster on AWS' stand-in (.ci/packages installs it)
	$(call suite,^Test,./testsuite/peers-aws/...)

# These print what they did: counts of kills, wall time, seeds.
matrix chaos chaos-aws chaos-upgrade never-lost: GOTEST := $(TOOLBIN)/gotestsum --format standard-verbose --

matrix: TIMEOUT = 60m
matrix: $(SYSTEM) $(TEST_TOOLS) ## Kill the worker before and after every step
	$(call suite,^TestKillMatrix,./testsuite/chaos/...)

# A failing seed is run again by SEED=number, or several by SEED=41-60, which
# overrides SEEDS.
SEEDS ?= 20
SEED  ?=
chaos: TIMEOUT = 120m
chaos: export ICHOR_CHAOS_SEEDS = $(SEEDS)
chaos: export ICHOR_CHAOS_SEED = $(SEED)
chaos: $(SYSTEM) $(TEST_TOOLS) ## Random faults and kills: SEEDS=200, or one SEED=number
	$(call suite,^TestChaos$$,./testsuite/chaos/...)

chaos-upgrade: TIMEOUT = 300m
chaos-upgrade: export ICHOR_CHAOS_SEEDS = $(SEEDS)
chaos-upgrade: export ICHOR_CHAOS_SEED = $(SEED)
chaos-upgrade: $(SYSTEM) $(TEST_TOOLS) ## Random faults and kills while a cluster is upgraded: SEEDS=200, or one SEED=number
	$(call suite,^TestChaosUpgrade,./testsuite/chaos/...)

# What there is time for in every run: make matrix, chaos, chaos-upgrade and
# never-lost run whole with CLOUD=aws.
CHAOS_AWS := ^Test(KillMatrixElsewhere|Chaos)$$
chaos-aws: TIMEOUT = 30m
chaos-aws: export ICHOR_TEST_CLOUD = aws
chaos-aws: export ICHOR_CHAOS_SEEDS = 2
chaos-aws: $(SYSTEM) $(TEST_TOOLS) ## Two seeds, and lost launches where capacity is short, on AWS' stand-in
	$(call suite,$(CHAOS_AWS),./testsuite/chaos/...)

# OPERATIONS is how many requests are made; SEED as above.
OPERATIONS ?= 300
never-lost: TIMEOUT = 40m
never-lost: export ICHOR_SCALE_OPERATIONS = $(OPERATIONS)
never-lost: export ICHOR_SCALE_SEED = $(SEED)
never-lost: $(SYSTEM) $(BIN)/ichor-grpcprovider $(TEST_TOOLS) ## Kill provider, worker and Temporal while a group is scaled
	$(call suite,^TestGroupNeverLoses,./workflows)
	$(call suite,^TestNeverLost,./testsuite/chaos/...)

bench: $(COMMANDS) $(TEST_TOOLS) ## Measure provisioning, provider, scale-up, idle groups and upgrades into docs/reference/benchmarks.md
	$(GO) run ./testsuite/bench -out docs/reference/benchmarks.md

## ---------------------------------------------------------------- demo

.PHONY: histories
histories: build $(TEST_TOOLS) ## Record the histories that the replay test keeps, after a version gate
	$(GO) run ./testsuite/replay/record

.PHONY: demo demo-down screenshots
# On aws, one zone has no capacity for a group, whose machines are made in the next.
cloud_tools := $(if $(filter aws,$(CLOUD)),$(AWS_TOOLS))
demo: $(SYSTEM) $(DEMO_TOOLS) $(cloud_tools) ## A cluster from nothing on this machine; CLOUD=aws, SPEED=n times real time
	$(BIN)/ichor-demo up --cloud $(CLOUD) $(if $(SPEED),--speed $(SPEED))

.PHONY: demo-autoscale
demo-autoscale: $(SYSTEM) $(BIN)/ichor-grpcprovider $(DEMO_TOOLS) $(cloud_tools) $(TOOLBIN)/cluster-autoscaler ## The real autoscaler grows and shrinks a group; CLOUD=aws, SPEED=n
	$(BIN)/ichor-demo autoscale --cloud $(CLOUD) $(if $(SPEED),--speed $(SPEED))

.PHONY: demo-upgrade
demo-upgrade: $(SYSTEM) $(BIN)/ichor-grpcprovider $(DEMO_TOOLS) $(cloud_tools) $(TOOLBIN)/cluster-autoscaler ## Talos and Kubernetes go up under a disruption budget; CLOUD=aws, SPEED=n
	$(BIN)/ichor-demo upgrade --cloud $(CLOUD) $(if $(SPEED),--speed $(SPEED))

demo-down: $(BIN)/ichor-demo ## Stop the demo and remove its state
	$(BIN)/ichor-demo down

screenshots: $(SYSTEM) $(DEMO_TOOLS) ## Pictures of a demo run for the README (needs Chromium)
	$(GO) run ./testsuite/screenshots -out docs/images

## ---------------------------------------------------------------- deployment

IMAGES     := ichor-worker ichor-grpcprovider ichor
IMAGE_ARCH ?= amd64 arm64
image_package     = ./$(patsubst ichor-%,%,$(patsubst ichor,starter,$(1)))
image_description = $(if $(filter ichor,$(1)),Command line of Ichor,Ichor: $(patsubst ichor-%,%,$(1)))

# The time of the commit, not of the build, so that two builds make one image.
.PHONY: image $(IMAGES:%=image-%)
image: $(IMAGES:%=image-%) ## OCI archives for amd64 and arm64 in bin/image, without a container engine

$(IMAGES:%=image-%): image-%: $(TOOLBIN)/ichor-image
	@for arch in $(IMAGE_ARCH); do \
		printf '  build   %s\n' "linux-$$arch/$*"; \
		GOOS=linux GOARCH=$$arch $(GO) build -ldflags '-s -w -X main.version=$(VERSION)' \
			-o $(BIN)/image/linux-$$arch/$* $(call image_package,$*); \
	done
	@$(TOOLBIN)/ichor-image build --name $* --description '$(call image_description,$*)' \
		--version $(VERSION) --revision "$$(git rev-parse HEAD)" --created "$$(git log -1 --format=%ct)" \
		$(foreach a,$(IMAGE_ARCH),--program linux/$(a)=$(BIN)/image/linux-$(a)/$*) --out $(BIN)/image/$*.tar

.PHONY: charts
charts: $(IMAGES:%=$(BIN)/%) $(DEPLOY_TOOLS) ## Check the Helm chart by a real kube-apiserver, and package it into bin/charts
	$(GO) test -C deploy/image ./...
	$(call suite,^Test,./testsuite/deploy/...)
	$(TOOLBIN)/helm package deploy/charts/ichor --app-version $(VERSION) --destination $(BIN)/charts

## ---------------------------------------------------------------- housekeeping

.PHONY: clean ci
clean: ## Remove everything that was built
	rm -rf $(BIN) .demo

ci: ## What continuous integration runs
	.ci/run

.PHONY: help
help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z0-9-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
