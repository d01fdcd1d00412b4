package aws

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cloud/exchange"
	"github.com/ichor-project/ichor/internal/fault"
)

// disks takes blocks as the EBS direct APIs do, and refuses what refuse says.
type disks struct {
	mu       sync.Mutex
	blocks   map[int][]byte
	complete string
	refuse   func(r *http.Request) (status int, code string)
}

func (d *disks) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	data, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client has gone
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.refuse != nil {
		if status, code := d.refuse(r); status != 0 {
			rw.Header().Set("X-Amzn-ErrorType", code)
			rw.WriteHeader(status)
			return
		}
	}
	rw.Header().Set("Content-Type", "application/json")
	if r.Method == http.MethodPost {
		d.complete = r.Header.Get("X-Amz-ChangedBlocksCount")
		rw.WriteHeader(http.StatusAccepted)
		return
	}
	sum := sha256.Sum256(data)
	index, err := strconv.Atoi(r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:])
	if err != nil || r.Header.Get("X-Amz-Checksum") != base64.StdEncoding.EncodeToString(sum[:]) || len(data) != blockSize {
		rw.WriteHeader(http.StatusTeapot)
		return
	}
	d.blocks[index] = data
	rw.WriteHeader(http.StatusCreated)
}

func writer(t *testing.T, d *disks, image func(http.ResponseWriter, *http.Request)) (*Provider, string) {
	t.Helper()
	d.blocks = map[int][]byte{}
	api, files := httptest.NewServer(d), httptest.NewServer(http.HandlerFunc(image))
	t.Cleanup(api.Close)
	t.Cleanup(files.Close)
	p := open(t, &wire{}, func(o *Options) { o.Endpoints["ebs"] = api.URL })
	p.blocks.Gate = exchange.NewGate(1e6)
	return p, files.URL + "/aws-amd64.raw.gz"
}

func gzipped(t *testing.T, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// sparse is an image whose second block is all zeros and whose last one is short.
func sparse() []byte {
	rng := rand.New(rand.NewPCG(1, 2))
	data := make([]byte, 40*blockSize+100)
	for i := range data {
		if i/blockSize != 1 {
			data[i] = byte(rng.Uint32()) | 1
		}
	}
	return data
}

func serve(body []byte) func(http.ResponseWriter, *http.Request) {
	return func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Length", strconv.Itoa(len(body)))
		_, _ = rw.Write(body) // a client that leaves is part of some tests
	}
}

func TestWriteImage(t *testing.T) {
	data := sparse()
	seen := map[string]int{}
	d := &disks{refuse: func(r *http.Request) (int, string) {
		// Each block is refused once, in one way or another.
		seen[r.URL.Path]++
		if seen[r.URL.Path] > 1 || r.Method == http.MethodPost {
			return 0, ""
		}
		if len(seen)%2 == 0 {
			return http.StatusInternalServerError, "InternalServerException"
		}
		return http.StatusServiceUnavailable, "ConflictException"
	}}
	p, url := writer(t, d, serve(gzipped(t, data)))
	if err := p.write(t.Context(), "snap-1", url); err != nil {
		t.Fatal(err)
	}
	if d.complete != "40" || len(d.blocks) != 40 {
		t.Errorf("completed with %s blocks of %d, want 40", d.complete, len(d.blocks))
	}
	disk := make([]byte, 41*blockSize)
	for n, b := range d.blocks {
		copy(disk[n*blockSize:], b)
	}
	if !bytes.Equal(disk[:len(data)], data) || len(bytes.Trim(disk[len(data):], "\x00")) != 0 {
		t.Error("the disk is not the image")
	}
}

func TestWriteImageFails(t *testing.T) {
	whole := gzipped(t, sparse())
	status := func(s int) func(http.ResponseWriter, *http.Request) {
		return func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(s) }
	}
	refuse := func(status int, code string) func(*http.Request) (int, string) {
		return func(*http.Request) (int, string) { return status, code }
	}
	for _, tc := range []struct {
		name   string
		image  func(http.ResponseWriter, *http.Request)
		refuse func(*http.Request) (int, string)
		want   fault.Kind
	}{
		{name: "missing", image: status(404), want: fault.Invalid},
		{name: "busy", image: status(429), want: fault.Unavailable},
		{name: "broken server", image: status(500), want: fault.Unavailable},
		{name: "another format", image: serve([]byte("<html>not an image</html>")), want: fault.Invalid},
		{name: "torn", image: serve(whole[:len(whole)/2]), want: fault.Unavailable},
		{name: "damaged", image: serve(append(bytes.Clone(whole[:len(whole)-8]), 1, 2, 3, 4, 5, 6, 7, 8)), want: fault.Invalid},
		{name: "no right", image: serve(whole), refuse: refuse(403, "AccessDeniedException"), want: fault.Unauthorized},
		{name: "quota", image: serve(whole), refuse: refuse(402, "ServiceQuotaExceededException"), want: fault.Quota},
		{name: "completed by somebody else", image: serve(whole), refuse: refuse(400, "ValidationException")},
	} {
		d := &disks{refuse: tc.refuse}
		p, url := writer(t, d, tc.image)
		if err := p.write(t.Context(), "snap-1", url); fault.KindOf(err) != tc.want {
			t.Errorf("%s: %v of kind %q, want %q", tc.name, err, fault.KindOf(err), tc.want)
		}
		if d.complete != "" {
			t.Errorf("%s: the snapshot was completed", tc.name)
		}
	}
}

func TestUploads(t *testing.T) {
	u := newUploads(time.Hour)
	begun, end := make(chan struct{}, 10), make(chan error)
	f := func(ctx context.Context) error {
		begun <- struct{}{}
		select {
		case err := <-end:
			return err
		case <-ctx.Done():
			return fault.New(fault.Unavailable, "write", "cancelled")
		}
	}
	wait := func() error {
		t.Helper()
		for {
			if done, err := u.write("snap-1", f); done {
				return err
			}
			time.Sleep(time.Millisecond)
		}
	}
	for range 3 {
		if done, err := u.write("snap-1", f); done || err != nil {
			t.Fatalf("while it runs: %t, %v", done, err)
		}
	}
	<-begun
	end <- fault.New(fault.Unavailable, "write", "torn")
	if err := wait(); !fault.Is(err, fault.Unavailable) {
		t.Errorf("after an error: %v", err)
	}
	if done, err := u.write("snap-1", f); done || err != nil { // again
		t.Errorf("%t, %v", done, err)
	}
	<-begun
	end <- nil
	if err := wait(); err != nil {
		t.Error(err)
	}
	if done, err := u.write("snap-1", f); !done || err != nil || len(begun) != 0 { // not again
		t.Errorf("%t, %v", done, err)
	}
	// What nobody asks for ends.
	u.idle = time.Millisecond
	if done, err := u.write("snap-2", f); done || err != nil {
		t.Errorf("%t, %v", done, err)
	}
	<-begun
	u.mu.Lock()
	w := u.running["snap-2"]
	u.mu.Unlock()
	<-w.done
	if !fault.Is(w.err, fault.Unavailable) {
		t.Errorf("left alone: %v", w.err)
	}
	u.idle = time.Hour
	u.stop("snap-2")
	u.stop("snap-2")
	u.fail(cloud.Image{ID: "snap-3", State: cloud.ImageFailed, Message: "because"})
	if im, ok := u.failed("snap-3"); !ok || im.Message != "because" {
		t.Errorf("%+v, %t", im, ok)
	}
	if _, ok := u.failed("snap-2"); ok {
		t.Error("another one failed")
	}
}

func TestImageRefused(t *testing.T) {
	p := open(t, &wire{})
	spec := cloud.ImageSpec{Name: "x", Schematic: "s", Version: "v1.13.5", Arch: "amd64", URL: "https://factory.example/aws-amd64.raw.gz"}
	for name, edit := range map[string]func(*cloud.ImageSpec){
		"format":       func(s *cloud.ImageSpec) { s.URL = "https://factory.example/aws-amd64.raw.xz" },
		"query":        func(s *cloud.ImageSpec) { s.URL += "?a=b" },
		"long":         func(s *cloud.ImageSpec) { s.URL = "https://" + strings.Repeat("a", 256) + "/x.raw" },
		"architecture": func(s *cloud.ImageSpec) { s.Arch = "riscv64" },
	} {
		bad := spec
		edit(&bad)
		req := cloud.EnsureImageRequest{Spec: bad, User: sample().Owner, Create: true}
		_, err := p.startImport(t.Context(), req, time.Time{})
		if name == "architecture" {
			_, err = p.EnsureImage(t.Context(), req)
		}
		if !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
