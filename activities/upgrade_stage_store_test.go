package activities

import (
	"bytes"
	"context"
	"io"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
)

// sceneStore is the store of a scene.
type sceneStore struct {
	Store
	*scene
}

func (s sceneStore) Record(_ context.Context, name string) (cluster.Record, int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if name != s.rec.Ref.Name {
		return cluster.Record{}, 0, fault.New(fault.NotFound, "read record", "none")
	}
	return s.rec, s.rev, nil
}

func (s sceneStore) PutRecord(_ context.Context, rec cluster.Record, expect int64) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.meanwhile; f != nil {
		s.meanwhile = nil
		f(&s.rec)
		s.rev++
	}
	if s.rev != expect {
		return 0, fault.New(fault.Conflict, "write record", "somebody was first")
	}
	s.rec, s.rev = rec, s.rev+1
	return s.rev, nil
}

func (s sceneStore) Object(_ context.Context, key string) (secrets.Value, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	body, ok := s.objects[key]
	if !ok {
		return secrets.Value{}, fault.New(fault.NotFound, "read object", "no %s", key)
	}
	return secrets.NewValue([]byte(body)), nil
}

func (s sceneStore) EnsureObject(_ context.Context, _ cluster.Ref, name string, body secrets.Value) (string, string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.objects[name]; !ok {
		s.objects[name] = string(body.Reveal())
	}
	return name, digestOf(s.objects[name]), nil
}

func (s sceneStore) Body(_ context.Context, ref, sum string) (secrets.Value, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	body, ok := s.bodies[ref+"@"+sum]
	if !ok {
		return secrets.Value{}, fault.New(fault.NotFound, "read body", "no %s", ref)
	}
	return secrets.NewValue([]byte(body)), nil
}

func (s sceneStore) Probe(context.Context, cluster.Ref) error { return s.storeErr }

func (s sceneStore) EnsureStream(_ context.Context, _ cluster.Ref, name string, write func(io.Writer) error) (StoredStream, error) {
	s.mu.Lock()
	kept, ok := s.streams[name]
	s.mu.Unlock()
	if !ok {
		var b bytes.Buffer
		if err := write(&b); err != nil {
			return StoredStream{}, err
		}
		s.mu.Lock()
		if _, ok := s.streams[name]; !ok {
			s.streams[name] = b.String()
		}
		kept = s.streams[name]
		s.mu.Unlock()
	}
	return StoredStream{Key: name, SHA256: digestOf(kept), Bytes: int64(len(kept))}, nil
}

func (s sceneStore) ReadStream(_ context.Context, stream StoredStream, w io.Writer) error {
	s.mu.Lock()
	kept, ok := s.streams[stream.Key]
	s.mu.Unlock()
	if !ok || digestOf(kept) != stream.SHA256 {
		return fault.New(fault.Invalid, "read stream", "not the one that is meant")
	}
	_, err := io.WriteString(w, kept)
	return err
}
