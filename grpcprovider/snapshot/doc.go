// Package snapshot is the memory of the autoscaler's server: all node groups as
// the autoscaler sees them, rebuilt from Temporal and answered from without any
// call. It implements provider.Source.
//
// # What is known, and from where
//
// A group's entity answers a query while a worker runs; the answer is the truth.
// Without a worker, the entity's memo tells what it had last made of itself, and
// the signals in its history after the memo's last event are the requests that
// it has accepted and not seen: they are applied here as the entity will. What a
// memo leaves out, the members that are ready, comes from the previous reading
// or, after a restart, from the cloud's list of machines. That list is never
// waited for and never says that something is gone.
//
// # Requests
//
// A request is checked against what is known plus what is still on its way, then
// made durable as a signal, then shown. Until a reading contains it, it is laid
// over every reading, so one that began earlier cannot take it back. If it stays
// unknown whether the signal arrived, the caller gets an error, and the group is
// not read again before the request's cancellation is durable.
//
// Locks are held for work in memory only, reads take none.
package snapshot
