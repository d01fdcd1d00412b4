// Where testsuite/deploy finds the CRDs of objects that the Helm chart can make.
// Nothing of these modules is compiled.
module github.com/ichor-project/ichor/tools/crds

go 1.26.5

require (
	github.com/cert-manager/cert-manager v1.21.2
	github.com/prometheus-operator/prometheus-operator v0.85.0
)
