package server_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ichor-project/ichor/grpcprovider/server"
	"github.com/ichor-project/ichor/internal/fault"
)

func TestLoadPrices(t *testing.T) {
	dir := t.TempDir()
	path := func(body string) string {
		t.Helper()
		p := filepath.Join(dir, "prices.yaml")
		if err := os.WriteFile(p, []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	got, err := server.LoadPrices(path("flavors:\n  flex-8-4: 0.22\n  flex-4-2: 1\n"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]float64{"flex-8-4": 0.22, "flex-4-2": 1}, got.Flavors); diff != "" {
		t.Errorf("prices (-want +got):\n%s", diff)
	}
	for name, body := range map[string]string{
		"nothing": "", "no flavors": "flavors: {}", "free": "flavors: {a: 0}", "negative": "flavors: {a: -1}",
		"not a number": "flavors: {a: .nan}", "endless": "flavors: {a: .inf}", "unknown field": "flavor: {a: 1}", "text": "flavors: {a: much}",
		"too long": strings.Repeat("#", 2<<20),
	} {
		if _, err := server.LoadPrices(path(body)); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := server.LoadPrices(filepath.Join(dir, "absent")); !fault.Is(err, fault.Invalid) {
		t.Errorf("an absent file: %v", err)
	}
}
