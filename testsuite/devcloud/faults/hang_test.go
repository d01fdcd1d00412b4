package faults_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/ichor-project/ichor/testsuite/devcloud/faults"
)

// waitFor waits until the log has n requests, which are not answered yet.
func (s *site) waitFor(n int) {
	s.t.Helper()
	for end := time.Now().Add(patience); len(s.in.Requests(0)) < n; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatalf("%d requests have arrived, want %d", len(s.in.Requests(0)), n)
		}
	}
}

func TestAnAPIThatHangs(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(s *site, f faults.Fault)
	}{
		{"until the fault is removed", func(s *site, f faults.Fault) {
			if res, err := s.call("DELETE", "/_devcloud/faults/"+f.ID, ""); err != nil || res.status != http.StatusNoContent {
				s.t.Errorf("remove: %d %v", res.status, err)
			}
		}},
		{"until all faults are removed", func(s *site, _ faults.Fault) { s.in.Clear() }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t)
			f := s.add(faults.Fault{Route: "* /v1/**", Effect: faults.Hang, Count: -1})
			answers := make(chan error, 3)
			for range cap(answers) {
				go func() {
					// The transport repeats a GET whose connection breaks.
					_, err := s.call("POST", "/v1/servers", "")
					answers <- err
				}()
			}
			s.waitFor(cap(answers))
			tt.end(s, f)
			for range cap(answers) {
				if err := <-answers; err == nil {
					t.Error("answered, want a broken connection")
				}
			}
			if n := s.done.Load(); n != 0 {
				t.Errorf("%d requests were done", n)
			}
			if res, err := s.call("GET", "/v1/servers", ""); err != nil || res.status != http.StatusCreated {
				t.Errorf("afterwards: %d %v", res.status, err)
			}
		})
	}
}

func TestAHangEndsWithItsClient(t *testing.T) {
	s := newSite(t)
	s.add(faults.Fault{Route: "POST /v1/servers", Effect: faults.Hang})
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/v1/servers", nil)
	if err != nil {
		t.Fatal(err)
	}
	gone := make(chan error, 1)
	go func() {
		res, err := http.DefaultClient.Do(req)
		if err == nil {
			err = errors.Join(errors.New("answered"), res.Body.Close())
		}
		gone <- err
	}()
	s.waitFor(1)
	cancel()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	for end := time.Now().Add(patience); !s.in.Requests(0)[0].Done; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the request hangs on without its client")
		}
	}
	if s.done.Load() != 0 {
		t.Error("the request was done")
	}
}

func TestRemovingAFaultReleasesWhatItHolds(t *testing.T) {
	s := newSite(t)
	held := s.add(faults.Fault{Route: "POST /v1/servers", Effect: faults.HoldBefore})
	other := s.add(faults.Fault{Route: "GET /v1/servers", Effect: faults.HoldBefore})
	post, get := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := s.call("POST", "/v1/servers", "")
		post <- err
	}()
	go func() {
		_, err := s.call("GET", "/v1/servers", "")
		get <- err
	}()
	s.waitFor(2)
	for len(s.events(0)) < 2 {
		time.Sleep(time.Millisecond)
	}
	if !s.in.Remove(held.ID) {
		t.Fatal("the fault is not there")
	}
	if err := <-post; err != nil || s.done.Load() != 1 {
		t.Errorf("%v, %d done", err, s.done.Load())
	}
	if s.in.Remove(held.ID) {
		t.Error("removed twice")
	}
	s.in.Remove(other.ID)
	if err := <-get; err != nil {
		t.Error(err)
	}
}
