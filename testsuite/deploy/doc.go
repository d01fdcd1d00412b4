// Package deploy judges what users install: it renders the Helm chart with the
// real Helm, has a real kube-apiserver admit the result, and compares chart and
// image with the programs that run in them.
package deploy
