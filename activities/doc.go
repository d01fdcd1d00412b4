// Package activities does what workflows decide. There is one struct for each
// outside system; every method is safe to repeat and to run twice at once.
//
// Inputs and results hold references and facts, never secrets: they are part of
// workflow history. Errors are faults; the Boundary interceptor turns them into
// application errors whose type is the fault's kind.
//
// Verbs: Ensure (create or adopt), Delete (nil when gone), Wait (polls and
// heartbeats), Get and List (read), Apply.
package activities
