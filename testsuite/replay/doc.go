// Package replay guards running workflows against changes of their code: every
// history in histories must replay, since a workflow of a cluster lives as long as
// the cluster. Record them anew with
//
//	go run ./testsuite/replay/record
//
// only when no such run can be alive any more; otherwise the change needs
// workflow.GetVersion.
package replay
