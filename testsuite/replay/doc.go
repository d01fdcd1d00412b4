// Package replay guards running workflows against changes of their code: every
// history in histories must replay, since a workflow of a cluster lives as long as
// the cluster. Each folder is what one state of the code recorded:
//
//	provisioning   before node groups could scale
//	scaling        with it, behind the version gate of that name
//	repairing      single nodes rolled back and replaced, clusters restored
//	elsewhere      on a cloud with zones: a launch that had no answer and found no
//	               capacity, and leases that share looks
//	upgrading      rolls; those that begin with phase- end with the request that they
//	               are named after, in that phase
//
// A change of commands needs workflow.GetVersion and a folder of its own, which
//
//	go run ./testsuite/replay/record -out testsuite/replay/histories/NAME
//
// fills; the others stay as they are as long as such a run may be alive. What -what
// names is recorded: upgrade, phases (beside upgrade, in the same folder), repair,
// elsewhere, or life. Each replaces what it recorded before and nothing else:
//
//	go run ./testsuite/replay/record -what phases
//	ICHOR_TEST_CLOUD=aws go run ./testsuite/replay/record -what elsewhere -out testsuite/replay/histories/elsewhere
package replay
