package account

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"maps"
	"slices"

	"github.com/ichor-project/ichor/testsuite/devcloud/aws/query"
)

// BlockSize is the only size of blocks that the EBS direct APIs write.
const BlockSize = 512 << 10

// blocksPerGB is how many blocks make a GiB.
const blocksPerGB = 1 << 30 / BlockSize

// SnapshotSpec asks for a snapshot that is written block by block.
type SnapshotSpec struct {
	SizeGB      int
	Description string
	ClientToken string
	Tags        []Tag
}

// Checksum encodes a hash as the EBS direct APIs do.
func Checksum(sum [32]byte) string { return base64.StdEncoding.EncodeToString(sum[:]) }

// StartSnapshot makes an empty, pending snapshot, the same one for the same
// client token.
func (v View) StartSnapshot(spec SnapshotSpec) (Snapshot, error) {
	if spec.SizeGB < 1 || spec.SizeGB > 65536 {
		return Snapshot{}, query.Refuse("ValidationException", "The volume size must lie between 1 and 65536 GiB.")
	}
	if err := CheckTags(spec.Tags); err != nil {
		return Snapshot{}, query.Refuse("ValidationException", "%v", err)
	}
	v.a.mu.Lock()
	defer v.a.mu.Unlock()
	what := []any{spec.SizeGB, spec.Description, spec.Tags}
	if id, err := v.replay(spec.ClientToken, what...); err != nil {
		return Snapshot{}, query.Refuse("ConflictException", "The request uses the same client token as a previous, but non-identical request.")
	} else if s, ok := v.a.snapshots.rows[id]; ok {
		return *s, nil
	}
	s := &Snapshot{
		Record: newRecord("snap"), Description: spec.Description, State: SnapshotPending, SizeGB: spec.SizeGB,
		blocks: map[int][]byte{}, sums: map[int][32]byte{},
	}
	v.a.snapshots.add(s)
	v.a.setTags(s.ID, spec.Tags)
	v.keep(spec.ClientToken, s.ID, what...)
	v.a.note(v.Action, s.ID)
	return *s, nil
}

// writable returns a snapshot that takes blocks. Writes have no lag.
func (v View) writable(id string) (*Snapshot, error) {
	s, ok := v.a.snapshots.rows[id]
	if !ok {
		return nil, query.Refuse("ResourceNotFoundException", "The snapshot '%s' does not exist.", id)
	}
	if s.State != SnapshotPending || s.sealed {
		return nil, query.Refuse("ValidationException", "The snapshot '%s' is not in the pending state.", id)
	}
	return s, nil
}

// PutBlock writes a block; writing it again replaces it.
func (v View) PutBlock(id string, index int, data []byte, checksum string) error {
	sum := sha256.Sum256(data)
	switch {
	case len(data) != BlockSize:
		return query.Refuse("ValidationException", "The data length must be %d.", BlockSize)
	case checksum != Checksum(sum):
		return query.Refuse("ValidationException", "The checksum does not match the data.")
	}
	v.a.mu.Lock()
	defer v.a.mu.Unlock()
	s, err := v.writable(id)
	if err != nil {
		return err
	}
	if index < 0 || index >= s.SizeGB*blocksPerGB {
		return query.Refuse("ValidationException", "The block index %d lies outside of the volume.", index)
	}
	s.blocks[index], s.sums[index] = data, sum
	return nil
}

// CompleteSnapshot seals a snapshot that has as many blocks as the caller says,
// with an aggregated checksum unless that is empty. It is completed later.
func (v View) CompleteSnapshot(id string, blocks int, checksum string) (string, error) {
	v.a.mu.Lock()
	defer v.a.mu.Unlock()
	if s, ok := v.a.snapshots.rows[id]; ok && s.sealed {
		return s.State, nil
	}
	s, err := v.writable(id)
	if err != nil {
		return "", err
	}
	if blocks != len(s.blocks) {
		return "", query.Refuse("ValidationException", "The snapshot has %d changed blocks, not %d.", len(s.blocks), blocks)
	}
	var all []byte
	for _, i := range slices.Sorted(maps.Keys(s.sums)) {
		sum := s.sums[i]
		all = append(all, sum[:]...)
	}
	if checksum != "" && checksum != Checksum(sha256.Sum256(all)) {
		return "", query.Refuse("ValidationException", "The aggregated checksum does not match the blocks.")
	}
	s.sealed = true
	if v.a.opts.Identify != nil {
		s.Guest, _ = v.a.opts.Identify(s.disk())
	}
	s.blocks = nil
	v.a.note(v.Action, id)
	v.a.background(func() {
		if v.a.clock.Sleep(v.a.ctx, v.a.lat.Snapshot) != nil {
			return
		}
		v.a.mu.Lock()
		defer v.a.mu.Unlock()
		s.State = SnapshotCompleted
		v.a.note("snapshot_is_completed", id)
	})
	return s.State, nil
}

// disk is what has been written, up to the last byte that is not zero.
func (s *Snapshot) disk() []byte {
	var out []byte
	for _, i := range slices.Sorted(maps.Keys(s.blocks)) {
		out = append(out, make([]byte, i*BlockSize-len(out))...)
		out = append(out, s.blocks[i]...)
	}
	return bytes.TrimRight(out, "\x00")
}
