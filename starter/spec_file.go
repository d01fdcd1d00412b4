package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/ichor-project/ichor/internal/check"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
	"github.com/ichor-project/ichor/internal/secrets/store"
	"github.com/ichor-project/ichor/internal/talos"
)

// fetchTimeout bounds the download of one document.
const fetchTimeout = time.Minute

// loaded is a valid spec with the documents that belong to it.
type loaded struct {
	Cluster cluster.Cluster
	// Bodies by field path; documents given by reference are not among them.
	Bodies map[string][]byte
}

// loadSpec reads a spec and its documents and checks everything. All problems
// come at once, as cluster.Problems with lines.
func (a *app) loadSpec(ctx context.Context, file string) (loaded, error) {
	a.specFile = file
	if file == "" {
		return loaded{}, usageError{errors.New("which spec? give it with -f FILE, or -f - for standard input")}
	}
	data, err := a.readSpec(file)
	if err != nil {
		return loaded{}, usageError{err}
	}
	c, pos, err := cluster.Decode(data)
	var problems cluster.Problems
	if errors.As(err, &problems) {
		// Form comes first: what did not decode would be reported as missing.
		return loaded{}, problems
	}
	structure := c.Validate()
	l := loaded{Cluster: c, Bodies: map[string][]byte{}}
	base := filepath.Dir(file)
	if file == "-" {
		base = "."
	}
	for _, s := range c.Sources() {
		if structure.Has(s.Field) {
			continue
		}
		body, why := readDocument(ctx, base, *s.Source)
		switch {
		case why != "":
			problems.Add(s.Field, "%s", why)
		case body != nil:
			l.Bodies[s.Field] = body
		}
	}
	problems = append(problems, check.Spec(c, check.Options{Bodies: l.Bodies, Patches: tryPatches})...)
	return l, pos.Locate(problems).Err()
}

func (a *app) readSpec(file string) ([]byte, error) {
	in := a.in
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer func() { _ = f.Close() }() // opened for reading
		in = f
	}
	return io.ReadAll(io.LimitReader(in, cluster.MaxDocument+1))
}

// readDocument returns a document, or why it cannot be had. It never repeats
// content, nor a URL, which may carry a token. References give nothing.
func readDocument(ctx context.Context, base string, s cluster.Source) (body []byte, why string) {
	switch {
	case s.Inline != "":
		return []byte(s.Inline), ""
	case s.File != "":
		name := s.File
		if !filepath.IsAbs(name) {
			name = filepath.Join(base, name)
		}
		f, err := os.Open(name)
		if err != nil {
			return nil, "cannot be read: " + err.Error()
		}
		defer func() { _ = f.Close() }() // opened for reading
		body, err := io.ReadAll(io.LimitReader(f, check.MaxBody+1))
		if err != nil {
			return nil, "cannot be read: " + err.Error()
		}
		return body, ""
	case s.URL != "":
		return fetch(ctx, s.URL)
	}
	return nil, ""
}

func fetch(ctx context.Context, address string) (body []byte, why string) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, "cannot be fetched: the URL is malformed"
	}
	client := &http.Client{CheckRedirect: func(next *http.Request, via []*http.Request) error {
		if via[0].URL.Scheme == "https" && next.URL.Scheme != "https" {
			return errors.New("it redirects from https to http")
		}
		if len(via) > 5 {
			return errors.New("it redirects too often")
		}
		return nil
	}}
	resp, err := client.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // without the URL
		}
		return nil, fmt.Sprintf("cannot be fetched from %s: %v", req.URL.Host, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Sprintf("cannot be fetched: %s answers %s", req.URL.Host, resp.Status)
	}
	body, err = io.ReadAll(io.LimitReader(resp.Body, check.MaxBody+1))
	if err != nil {
		return nil, fmt.Sprintf("cannot be fetched from %s: %v", req.URL.Host, err)
	}
	return body, ""
}

// tryPatches renders a config of each kind of node with throwaway keys.
func tryPatches(c cluster.Cluster, bodies map[string][]byte) (cluster.Problems, error) {
	found, err := talos.ValidatePatches(c.Metadata.Name, c.Spec, talos.PatchSets(c.Spec, bodies))
	var out cluster.Problems
	for _, p := range found {
		out = append(out, cluster.Problem{Field: p.Field, Reason: p.Message})
	}
	return out, err
}

// publish stores the documents and returns the spec with references in their
// place: what may reach Temporal. Safe to repeat: keys are digests.
func publish(ctx context.Context, st *store.Store, l loaded) (cluster.Cluster, error) {
	c, err := clone(l.Cluster)
	if err != nil {
		return c, err
	}
	for _, s := range c.Sources() {
		body, ok := l.Bodies[s.Field]
		if !ok {
			continue
		}
		ref, sum, err := st.PutBody(ctx, c.Metadata.Name, secrets.NewValue(body))
		if err != nil {
			return c, fmt.Errorf("store %s: %w", s.Field, err)
		}
		*s.Source = cluster.Source{Ref: ref, SHA256: sum}
	}
	return c, check.Error(check.Spec(c, check.Options{FromTemporal: true}))
}

// clone copies a spec with its lists in the author's order.
func clone(c cluster.Cluster) (cluster.Cluster, error) {
	var out cluster.Cluster
	b, err := json.Marshal(c)
	if err == nil {
		err = json.Unmarshal(b, &out)
	}
	return out, fault.Wrap(fault.Internal, "copy the spec", err)
}
