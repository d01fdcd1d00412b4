package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/ichor-project/ichor/testsuite/canary"
	"github.com/ichor-project/ichor/testsuite/replay"
)

// write puts the histories into a folder instead of those that the same scenarios
// wrote there before. It refuses to write a secret.
func (r *recorder) write(ctx context.Context, what, dir string) error {
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	var set canary.Set
	for name, value := range replay.Doors {
		set.Add(name, value)
	}
	files := map[string][]byte{}
	for _, k := range r.keeps {
		body, err := r.history(ctx, k, host)
		if err != nil {
			return err
		}
		if err := canary.Error(set.Scan(k.file, body)); err != nil {
			return err
		}
		files[k.file+".json"] = body
	}
	if len(files) != len(r.keeps) {
		return fmt.Errorf("%d runs share %d file names", len(r.keeps), len(files))
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	old, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, f := range old {
		if !owns(what, f.Name()) {
			continue
		}
		if err := os.Remove(filepath.Join(dir, f.Name())); err != nil {
			return err
		}
	}
	for name, body := range files {
		if err := os.WriteFile(filepath.Join(dir, name), body, 0o600); err != nil {
			return err
		}
		fmt.Printf("%7d bytes %s\n", len(body), name)
	}
	return nil
}

// history exports a run without the name of this machine.
func (r *recorder) history(ctx context.Context, k kept, host string) ([]byte, error) {
	h := &historypb.History{}
	for it := r.temporal.GetWorkflowHistory(ctx, k.id, k.run, false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT); it.HasNext(); {
		e, err := it.Next()
		if err != nil {
			return nil, fmt.Errorf("history of %s: %w", k.id, err)
		}
		h.Events = append(h.Events, e)
	}
	body, err := protojson.Marshal(h)
	if err != nil {
		return nil, err
	}
	return []byte(strings.NewReplacer("@"+host, "@host", `"`+host+":", `"host:`).Replace(string(body))), nil
}
