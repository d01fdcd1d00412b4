// Command cluster-autoscaler-newwire is the Cluster Autoscaler's core 1.33 with
// an externalgrpc client that speaks the contract as releases from 1.35 do. It is
// a program of its own because both generations carry the same names, which one
// process cannot hold twice.
package main

import "github.com/ichor-project/ichor/tools/cluster-autoscaler/run"

func main() { run.Main(connect) }
