package talos

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"hash"
	"io"
	"time"

	"github.com/siderolabs/talos/pkg/machinery/api/common"
	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"google.golang.org/grpc"

	"github.com/ichor-project/ichor/internal/fault"
)

const (
	// snapshotPage is the unit of a database file: what follows its last whole
	// page in a snapshot is the checksum.
	//
	// Source: hasChecksum in etcdutl/snapshot of etcd 3.6.
	snapshotPage = 512
	// snapshotChunk is how much of a snapshot is sent in one message; messages
	// are limited to 32 MiB, gRPC's frames to 16 KiB.
	snapshotChunk = 64 << 10
	// recoverTimeout bounds the start of a recovery: the node stops etcd, and
	// starts it again with the snapshot.
	recoverTimeout = 2 * time.Minute
)

// checksum follows a snapshot and proves that it ends with the SHA-256 of all
// before it, as etcd writes it.
type checksum struct {
	sum  hash.Hash
	tail []byte // the last bytes, not hashed yet
	size int64
}

func newChecksum() *checksum { return &checksum{sum: sha256.New()} }

// Write never fails.
func (c *checksum) Write(p []byte) (int, error) {
	c.size += int64(len(p))
	c.tail = append(c.tail, p...)
	if over := len(c.tail) - sha256.Size; over > 0 {
		// A hash never fails to write.
		_, _ = c.sum.Write(c.tail[:over])
		c.tail = append(c.tail[:0], c.tail[over:]...)
	}
	return len(p), nil
}

// check returns what is wrong with the snapshot, or nothing.
func (c *checksum) check() string {
	switch {
	case c.size == 0:
		return "the snapshot is empty"
	case c.size%snapshotPage != sha256.Size:
		return "the snapshot is cut off or has no checksum"
	case !bytes.Equal(c.sum.Sum(nil), c.tail):
		return "the snapshot does not match its checksum"
	}
	return ""
}

// EtcdSnapshot streams a snapshot of etcd, as this node's member has it, and
// proves its checksum. What was written is worthless after an error. Errors:
// Unavailable when the stream breaks off or the snapshot is damaged; errors of to
// are returned as they are.
func (n *Node) EtcdSnapshot(ctx context.Context, to io.Writer) error {
	const op = "take a snapshot of etcd"
	sum := newChecksum()
	out := io.MultiWriter(sum, to)
	err := receive(ctx, n, op, repeatable, stallTimeout,
		func(ctx context.Context) (grpc.ServerStreamingClient[common.Data], error) {
			return n.api.MachineClient.EtcdSnapshot(ctx, &machine.EtcdSnapshotRequest{})
		},
		func(d *common.Data) error {
			_, err := out.Write(d.GetBytes())
			return err
		})
	if err != nil {
		return etcdError(err)
	}
	if problem := sum.check(); problem != "" {
		return fault.New(fault.Unavailable, op+" of "+n.address, "%s", problem)
	}
	return nil
}

// EtcdRecover uploads a snapshot and bootstraps a new etcd cluster of this one
// node from it. The caller must have written down which node it is before, as for
// Bootstrap; the others join empty. Errors: Unsafe when the node has etcd data
// already, because an earlier attempt has recovered it or because nothing was
// lost: look at EtcdHealth; Invalid when the snapshot does not match its checksum,
// or the node is a worker; NotYet until the node is ready for it; Unavailable when
// nothing has begun; Ambiguous when the answer to the bootstrap was lost. Errors
// of from are returned as they are.
func (n *Node) EtcdRecover(ctx context.Context, from io.Reader) error {
	const op = "recover etcd"
	if err := n.uploadSnapshot(ctx, from); err != nil {
		return recoverError(err)
	}
	_, err := call(ctx, n, op, once, recoverTimeout, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, n.api.Bootstrap(ctx, &machine.BootstrapRequest{RecoverEtcd: true})
	})
	return recoverError(err)
}

// uploadSnapshot proves the checksum before the node can use the snapshot: it
// takes what it has when the upload ends, and an upload that was broken off
// counts for nothing.
func (n *Node) uploadSnapshot(ctx context.Context, from io.Reader) error {
	const op = "upload the snapshot of etcd"
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silent := errors.New("silent")
	watch := time.AfterFunc(stallTimeout, func() { cancel(silent) })
	defer watch.Stop()
	failed := func(err error) error { return callError(op+" to "+n.address, repeatable, err) }
	stream, err := n.api.MachineClient.EtcdRecover(ctx)
	if err != nil {
		return failed(err)
	}
	sum := newChecksum()
	buf := make([]byte, snapshotChunk)
	for {
		size, readErr := io.ReadFull(from, buf)
		if size > 0 {
			_, _ = sum.Write(buf[:size]) // never fails
			err := stream.Send(&common.Data{Bytes: buf[:size]})
			if errors.Is(err, io.EOF) {
				break // the node has ended it; its reason comes with the answer
			}
			if err != nil {
				return failed(err)
			}
			watch.Reset(stallTimeout)
		}
		if errors.Is(readErr, io.EOF) || errors.Is(readErr, io.ErrUnexpectedEOF) {
			if problem := sum.check(); problem != "" {
				return fault.New(fault.Invalid, op, "%s", problem)
			}
			break
		}
		if readErr != nil {
			return readErr
		}
	}
	_, err = stream.CloseAndRecv()
	return failed(err)
}

func recoverError(err error) error {
	return sharpen(err, func(f *fault.Error) {
		if containsAny(f.Message, "data directory is not empty") {
			f.Kind, f.Message = fault.Unsafe, "the node has etcd data already: it was recovered before, or nothing was lost"
		}
	})
}
