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
	$(call build-tool,kine,github.com/k3s-io/kine)

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

$(TOOLBIN)/gotestsum: tools/gotestsum/go.mod
	$(call build-tool,gotestsum,gotest.tools/gotestsum)

# What a demo starts, what tests start beyond it, and what only looks at source.
DEMO_TOOLS := $(addprefix $(TOOLBIN)/,temporal kine kube-apiserver kube-controller-manager kube-scheduler kwok)
TEST_TOOLS := $(DEMO_TOOLS) $(addprefix $(TOOLBIN)/,talosctl tctl golangci-lint gotestsum)
LINT_TOOLS := $(addprefix $(TOOLBIN)/,golangci-lint workflowcheck gofumpt)
TOOLS      := $(sort $(TEST_TOOLS) $(LINT_TOOLS))

.PHONY: tools
tools: $(TOOLS) ## Build every tool into bin/tools (only what changed)

.PHONY: help
help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z0-9-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
