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
// The SDK's retries are off, so that the histories of workflows show every call.
// Reads of single machines are gathered: those that come within a few
// milliseconds share one DescribeInstances.
package aws
