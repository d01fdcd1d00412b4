package canary_test

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/ichor-project/ichor/testsuite/canary"
)

func compress(t interface{ Fatal(...any) }, open func(io.Writer) io.WriteCloser, b []byte) []byte {
	var out bytes.Buffer
	w := open(&out)
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

type encoder func(t interface{ Fatal(...any) }, b []byte) []byte

// encoders are the ways in which a value may be hidden in something larger.
var encoders = map[string]encoder{
	"base64": func(_ interface{ Fatal(...any) }, b []byte) []byte {
		return []byte(base64.StdEncoding.EncodeToString(b))
	},
	"URL base64": func(_ interface{ Fatal(...any) }, b []byte) []byte {
		return []byte(base64.URLEncoding.EncodeToString(b))
	},
	"wrapped base64": func(_ interface{ Fatal(...any) }, b []byte) []byte {
		text := base64.StdEncoding.EncodeToString(b)
		var out strings.Builder
		for len(text) > 20 {
			out.WriteString(text[:20] + "\n    ")
			text = text[20:]
		}
		return []byte(out.String() + text)
	},
	"gzip": func(t interface{ Fatal(...any) }, b []byte) []byte {
		return compress(t, func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) }, b)
	},
	"zlib": func(t interface{ Fatal(...any) }, b []byte) []byte {
		return compress(t, func(w io.Writer) io.WriteCloser { return zlib.NewWriter(w) }, b)
	},
	"surrounded": func(_ interface{ Fatal(...any) }, b []byte) []byte {
		return append(append([]byte("before: "), b...), " after"...)
	},
	"binary before": func(_ interface{ Fatal(...any) }, b []byte) []byte { return append([]byte{0, 10, 200, 1}, b...) },
}

func TestFindsWhatIsPlanted(t *testing.T) {
	for name, encode := range map[string]func(v string) []byte{
		"clear":        func(v string) []byte { return []byte("x " + v + " y") },
		"hex":          func(v string) []byte { return []byte(hex.EncodeToString([]byte(v))) },
		"HEX":          func(v string) []byte { return []byte(strings.ToUpper(hex.EncodeToString([]byte(v)))) },
		"URL":          func(v string) []byte { return []byte(url.QueryEscape(v)) },
		"JSON":         func(v string) []byte { b, _ := json.Marshal(map[string]any{"a": []any{1, v}}); return b },
		"JSON key":     func(v string) []byte { b, _ := json.Marshal(map[string]any{v: 1}); return b },
		"JSON in JSON": func(v string) []byte { a, _ := json.Marshal(v); b, _ := json.Marshal(string(a)); return b },
		"deflate": func(v string) []byte {
			return compress(t, func(w io.Writer) io.WriteCloser {
				fw, err := flate.NewWriter(w, 9)
				if err != nil {
					t.Fatal(err)
				}
				return fw
			}, []byte(v))
		},
		"base64 after a path": func(v string) []byte {
			return []byte("https://host/p/" + base64.StdEncoding.EncodeToString([]byte("user:"+v)))
		},
		"cut gzip": func(v string) []byte {
			return encoders["gzip"](t, []byte(v+strings.Repeat(" tail", 1000)))[:70]
		},
	} {
		t.Run(name, func(t *testing.T) {
			var set canary.Set
			for _, value := range []string{set.Plant("token"), `pass"word<with>&` + "\nlines\\ü"} {
				set.Add("odd", `pass"word<with>&`+"\nlines\\ü")
				found := set.Scan("place", encode(value))
				if len(found) == 0 {
					t.Fatal("not found")
				}
				for _, f := range found {
					if !strings.HasPrefix(f.Where, "place") || strings.Contains(f.String(), value) {
						t.Errorf("%v", f)
					}
				}
			}
		})
	}
}

// Whatever the nesting of encodings, up to three deep, the value is found.
func TestFindsWhatIsNested(t *testing.T) {
	var set canary.Set
	value := set.Plant("token")
	rapid.Check(t, func(rt *rapid.T) {
		b := []byte(value)
		for range rapid.IntRange(0, 3).Draw(rt, "depth") {
			name := rapid.SampledFrom([]string{"base64", "URL base64", "wrapped base64", "gzip", "zlib", "surrounded", "binary before"}).Draw(rt, "encoding")
			b = encoders[name](rt, b)
		}
		if len(set.Scan("place", b)) == 0 {
			rt.Fatalf("not found in %q", b)
		}
	})
}

func TestFindsNothingElse(t *testing.T) {
	var set canary.Set
	value := set.Plant("token")
	other := new(canary.Set).Plant("other")
	for _, text := range []string{"", other, value[:len(value)-1], base64.StdEncoding.EncodeToString([]byte(other)), `{"a":["` + other + `"]}`} {
		if found := set.Scan("place", []byte(text)); len(found) != 0 {
			t.Errorf("%q: %v", text, found)
		}
	}
	rapid.Check(t, func(rt *rapid.T) {
		b := rapid.SliceOf(rapid.Byte()).Draw(rt, "bytes")
		if found := set.Scan("place", b); len(found) != 0 {
			rt.Fatal(found)
		}
	})
}

func TestLocations(t *testing.T) {
	var set canary.Set
	body, err := json.Marshal(map[string]any{"a": []any{"x", map[string]any{"b": set.Plant("token")}}})
	if err != nil {
		t.Fatal(err)
	}
	found := set.Scan("event 3", body)
	if len(found) != 1 || found[0] != (canary.Finding{Secret: "token", Where: "event 3.a[1].b", How: "clear"}) {
		t.Errorf("%+v", found)
	}
}

func TestDocuments(t *testing.T) {
	der := bytes.Repeat([]byte("0123456789 private "), 12)
	key := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: bytes.Repeat([]byte("public"), 30)})
	doc, err := json.Marshal(map[string]any{
		"cluster":    map[string]any{"id": "an identity of a cluster", "secret": "a secret of a cluster"},
		"trustdinfo": map[string]any{"token": "abcdef.0123456789abcdef"},
		"certs":      map[string]any{"os": map[string]any{"crt": base64.StdEncoding.EncodeToString(cert), "key": base64.StdEncoding.EncodeToString(key)}},
		"short":      "x",
	})
	if err != nil {
		t.Fatal(err)
	}
	var set canary.Set
	set.AddDocument("bundle", doc)
	lines := strings.Split(string(key), "\n")
	for text, want := range map[string]string{
		"x " + base64.StdEncoding.EncodeToString(key): "bundle.certs.os.key",
		string(key):                "bundle.certs.os.key (key 1)",
		string(der):                "bundle.certs.os.key (key 1)",
		lines[2]:                   "bundle.certs.os.key (key 1)",
		"abcdef.0123456789abcdef":  "bundle.trustdinfo.token",
		"a secret of a cluster":    "bundle.cluster.secret",
		"an identity of a cluster": "",
		string(cert):               "",
	} {
		found := set.Scan("place", []byte(text))
		if (len(found) > 0) != (want != "") || (want != "" && found[0].Secret != want) {
			t.Errorf("%.40q: %v, want %q", text, found, want)
		}
	}
}

func TestScanDir(t *testing.T) {
	var set canary.Set
	value := set.Plant("token")
	dir := t.TempDir()
	for name, body := range map[string]string{"a/log": "x " + value, "b": "clean", "c/skipped": value} {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	files, found, err := set.ScanDir(dir, func(p string) bool { return strings.HasPrefix(p, "c/") })
	if err != nil || files != 2 || len(found) != 1 || found[0].Where != "a/log" {
		t.Errorf("%d files, %v, %v", files, found, err)
	}
}

func TestEmptyProofsAreRefused(t *testing.T) {
	if (canary.Report{}).Err() == nil {
		t.Error("a scan of nothing counts as a proof")
	}
	for name, f := range map[string]func(s *canary.Set){
		"short value":    func(s *canary.Set) { s.Add("x", "short") },
		"empty document": func(s *canary.Set) { s.AddDocument("x", []byte("a: b")) },
		"no document":    func(s *canary.Set) { s.AddDocument("x", []byte("\t:")) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: accepted", name)
				}
			}()
			f(&canary.Set{})
		}()
	}
}
