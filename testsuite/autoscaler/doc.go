// Package autoscaler judges Ichor by the real Cluster Autoscaler: its core 1.33
// in one program for each generation of the contract, real kube-apiserver,
// scheduler and controller manager of a devcloud cluster, a real worker and the
// real provider, connected by mutual TLS through a proxy that keeps a log of
// every call. Times are shortened; what is a matter of minutes in the released
// autoscaler and cannot be set is left to the long tests.
package autoscaler
