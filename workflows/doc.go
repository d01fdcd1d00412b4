// Package workflows decides what happens to a cluster and waits for it. It holds
// the truth about intent; facts are read through activities.
//
// A workflow file has the input and result, the workflow function that reads
// like the runbook, its phases, and its handlers. Nothing here names a cloud.
package workflows
