package factory_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ichor-project/ichor/testsuite/devcloud/guest"
)

// TestDisks fetches a disk plainly and compressed, and damages it.
func TestDisks(t *testing.T) {
	f, _, base := serve(t)
	fetch := func(file string) []byte {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/image/"+f.Stock()+"/v1.13.5/"+file, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		if err = errors.Join(err, res.Body.Close()); err != nil || res.StatusCode != http.StatusOK {
			t.Fatalf("%s: status %d, %v", file, res.StatusCode, err)
		}
		return body
	}
	plain := fetch("aws-arm64.raw")
	z, err := gzip.NewReader(bytes.NewReader(fetch("aws-arm64.raw.gz")))
	if err != nil {
		t.Fatal(err)
	}
	unzipped, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(plain, unzipped) {
		t.Error("the compressed disk is another one")
	}
	got, ok := f.Identify(plain)
	want := guest.Image{Schematic: f.Stock(), TalosVersion: "v1.13.5", Platform: "aws", Arch: "arm64"}
	if diff := cmp.Diff(want, got); diff != "" || !ok {
		t.Errorf("identified %v: %s", ok, diff)
	}
	const block = 512 << 10
	for name, damage := range map[string]func([]byte) []byte{
		"beginning lost": func(b []byte) []byte { return append(make([]byte, block), b[block:]...) },
		"middle lost": func(b []byte) []byte {
			return append(append(b[:3*block:3*block], make([]byte, block)...), b[4*block:]...)
		},
		"end lost":  func(b []byte) []byte { return b[:6*block] },
		"displaced": func(b []byte) []byte { return append(make([]byte, block), b...) },
		"nothing":   func([]byte) []byte { return nil },
	} {
		b := damage(bytes.Clone(plain))
		if bytes.Equal(b, plain) {
			t.Errorf("%s: nothing was damaged", name)
		}
		if image, ok := f.Identify(b); ok {
			t.Errorf("%s: identified as %+v", name, image)
		}
	}
}
