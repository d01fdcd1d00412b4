// Package aws makes Amazon EC2 a cloud of Ichor.
//
// What is opposite to other clouds here, and what this package does about it:
//
// Machines are created with a client token, the digest of the machine's identity
// and of the attempt (clientToken). Sending a create again has one of four
// outcomes, and none of them makes a second machine: the cloud answers with the
// machine it made the first time (replay); it refuses since the request is not
// the same (mismatch: the first one was heard, and its machine is adopted); it
// refuses since the machine of the token is gone (terminated, NotFound: only the
// workflow may raise the attempt); or nothing was made before and now is. So the
// create is its own proof, and neither a look nor a wait has to precede it.
//
// Everything else lags. A machine, a subnet or a rule that was made may not be
// visible for a while, to some readers, so an empty list and "NotFound" prove
// nothing by themselves. A terminated machine, which the cloud shows for about
// an hour, is proof. For the rest absence counts when it has been seen for as
// long as Capabilities.AbsenceWindow, or at once when the thing is known to be
// older than that (sightings).
//
// Networks, gateways and groups know no tokens: they carry identity tags from
// the create call on, are looked for by tag, adopted, repaired, and of several
// the oldest stays.
//
// The SDK's retries are off: what the cloud refuses is told to the activity that
// asked, with the cloud's word for how long to wait, so that the histories of
// workflows show it. The one exception are the lists of all that a cluster has
// (ListResources, ListImages). They consist of some twenty reads that are worth
// nothing one by one, so under throttling an attempt that gave up at the first
// refusal would begin again with all of them, and be throttled the more. There a
// read, and only a read, that is RateLimited or Unavailable is repeated a few
// times, with the pauses that the cloud asks for, through the account's limiter,
// and in the attempt's own time (exchange.Whole). What lasts ends the attempt with
// that kind: never with a part of the list, and never with an empty one. Every
// exchange is told to Options.Observe either way. ListMachines is a single read
// and is left to its caller.
//
// Reads of single machines are gathered: those that come within a few
// milliseconds share one DescribeInstances.
package aws
