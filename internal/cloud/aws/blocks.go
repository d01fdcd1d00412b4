package aws

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	ebstypes "github.com/aws/aws-sdk-go-v2/service/ebs/types"

	"github.com/ichor-project/ichor/internal/cloud/exchange"
	"github.com/ichor-project/ichor/internal/fault"
)

const (
	// blockSize is the only one that the API takes (EBS direct APIs, blocks).
	blockSize = 512 << 10
	// writers write blocks at once: each takes a few tens of milliseconds, and
	// downloading gives no more than that.
	writers = 8
	// blockTries bound how often one block is sent.
	blockTries = 6
)

// write writes the image at a URL to a pending snapshot and completes it. Zeros
// are left out: what is not written reads as zero. Invalid says that trying again
// cannot help.
func (p *Provider) write(ctx context.Context, id, url string) error {
	const op = "write snapshot"
	body, err := p.download(ctx, url)
	if err != nil {
		return err
	}
	defer func() { _ = body.Close() }() // only read from
	source := io.Reader(body)
	if format(url) == ".raw.gz" {
		z, err := gzip.NewReader(body)
		if err != nil {
			return broken(op, err)
		}
		source = z
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	slots := make(chan struct{}, writers)
	zero := make([]byte, blockSize)
	written := int32(0)
	for index := int32(0); ctx.Err() == nil; index++ {
		block, last, err := nextBlock(source)
		switch {
		case err != nil:
			cancel(broken(op, err))
		case len(block) == 0, bytes.Equal(block, zero):
		case index >= imageGiB<<30/blockSize:
			cancel(fault.New(fault.Invalid, op, "the image is larger than %d GiB", imageGiB))
		default:
			written++
			slots <- struct{}{}
			wg.Go(func() {
				defer func() { <-slots }()
				if err := p.putBlock(ctx, id, index, block); err != nil {
					cancel(err)
				}
			})
		}
		if last {
			break
		}
	}
	wg.Wait()
	switch err := context.Cause(ctx); {
	case errors.Is(err, errSealed):
		return nil
	case errors.Is(err, context.Canceled):
		return fault.New(fault.Unavailable, op, "nobody waits for it any more")
	case err != nil:
		return err
	}
	err = p.calls.Call(ctx, exchange.Request{Op: "complete snapshot", Action: "CompleteSnapshot", Verb: exchange.Change}, func(ctx context.Context) error {
		_, err := p.ebs.CompleteSnapshot(ctx, &ebs.CompleteSnapshotInput{SnapshotId: sdk.String(id), ChangedBlocksCount: sdk.Int32(written)})
		return err
	})
	if codeOf(err) == codeSealed {
		return nil
	}
	return err
}

// nextBlock reads a block; the last one is filled up with zeros, or empty.
func nextBlock(source io.Reader) (block []byte, last bool, err error) {
	block = make([]byte, blockSize)
	switch _, err := io.ReadFull(source, block); {
	case errors.Is(err, io.EOF):
		return nil, true, nil
	case errors.Is(err, io.ErrUnexpectedEOF):
		// Either it is short, or the download has ended too early, which is said again.
		if _, again := source.Read(make([]byte, 1)); !errors.Is(again, io.EOF) {
			return nil, true, err
		}
		return block, true, nil
	default:
		return block, err != nil, err
	}
}

// errSealed says that a snapshot takes no blocks any more: another process has
// completed it.
var errSealed = errors.New("the snapshot is complete")

// codeSealed is how the API says it. A snapshot that is refused for another
// reason stays pending, and the cloud ends it in time.
const codeSealed = "Validation"

// putBlock writes one block, again if the cloud has no time for it.
func (p *Provider) putBlock(ctx context.Context, id string, index int32, data []byte) error {
	sum := sha256.Sum256(data)
	pause := 100 * time.Millisecond
	for try := 1; ; try++ {
		err := p.blocks.Call(ctx, exchange.Request{Op: fmt.Sprintf("write block %d of snapshot", index), Action: "PutSnapshotBlock", Verb: exchange.Change}, func(ctx context.Context) error {
			_, err := p.ebs.PutSnapshotBlock(ctx, &ebs.PutSnapshotBlockInput{
				SnapshotId: sdk.String(id), BlockIndex: sdk.Int32(index), BlockData: bytes.NewReader(data), DataLength: sdk.Int32(blockSize),
				Checksum: sdk.String(base64.StdEncoding.EncodeToString(sum[:])), ChecksumAlgorithm: ebstypes.ChecksumAlgorithmChecksumAlgorithmSha256,
			})
			return err
		})
		switch {
		case err == nil:
			return nil
		case codeOf(err) == codeSealed:
			return errSealed
		case try == blockTries, !fault.KindOf(err).Retryable():
			return err
		}
		t := time.NewTimer(max(pause, fault.RetryAfter(err)))
		select {
		case <-ctx.Done():
			t.Stop()
			return context.Cause(ctx)
		case <-t.C:
		}
		pause *= 2
	}
}

// download begins to read an image.
func (p *Provider) download(ctx context.Context, url string) (io.ReadCloser, error) {
	const op = "download image"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, fault.New(fault.Invalid, op, "the image's URL is not one")
	}
	resp, err := p.plain.Do(req)
	if err != nil {
		return nil, fault.New(fault.Unavailable, op, "%s", readable(err))
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	_ = resp.Body.Close() // nothing is read from it
	kind := fault.Unavailable
	if s := resp.StatusCode; s >= 400 && s < 500 && s != http.StatusRequestTimeout && s != http.StatusTooManyRequests {
		kind = fault.Invalid
	}
	return nil, fault.New(kind, op, "expected HTTP 200, got HTTP %d", resp.StatusCode)
}

// broken judges an image that cannot be read: what is not of its format stays so,
// what ended early may be complete the next time.
func broken(op string, err error) error {
	if errors.Is(err, gzip.ErrHeader) || errors.Is(err, gzip.ErrChecksum) {
		return fault.New(fault.Invalid, op, "the image is not in the format that its name says")
	}
	return fault.New(fault.Unavailable, op, "the download ended early: %s", readable(err))
}
