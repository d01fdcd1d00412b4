package canary

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	// maxDepth bounds how many encodings around each other are undone.
	maxDepth = 5
	// maxInflated bounds what one compressed piece may grow to.
	maxInflated = 64 << 20
)

// Scan looks for the secrets in b: as they are, escaped, in hexadecimal, and
// inside base64, gzip and zlib, also one within another. JSON is walked, so
// that the finding names the field. where is the name of b in findings.
func (s *Set) Scan(where string, b []byte) []Finding {
	found := findings{}
	var doc any
	if trimmed := bytes.TrimSpace(b); len(trimmed) > 0 && strings.ContainsRune("{[", rune(trimmed[0])) && json.Unmarshal(trimmed, &doc) == nil {
		s.walk(where, doc, found)
	}
	if len(found) == 0 {
		s.scan(where, "", b, maxDepth, found)
	}
	out := make([]Finding, 0, len(found))
	for at, how := range found {
		out = append(out, Finding{Secret: at.secret, Where: at.where, How: how})
	}
	slices.SortFunc(out, func(a, b Finding) int {
		return strings.Compare(a.Where+"\x00"+a.Secret, b.Where+"\x00"+b.Secret)
	})
	return out
}

// findings holds one way for each secret in each place, the plainest.
type findings map[struct{ where, secret string }]string

func (f findings) add(where, secret, how string) {
	at := struct{ where, secret string }{where, secret}
	if have, ok := f[at]; !ok || len(how) < len(have) {
		f[at] = how
	}
}

// walk scans every key and string of a JSON document.
func (s *Set) walk(where string, node any, found findings) {
	switch x := node.(type) {
	case map[string]any:
		for key, value := range x {
			s.scan(where+" (a key)", "", []byte(key), maxDepth, found)
			s.walk(where+"."+key, value, found)
		}
	case []any:
		for i, value := range x {
			s.walk(fmt.Sprintf("%s[%d]", where, i), value, found)
		}
	case string:
		s.scan(where, "", []byte(x), maxDepth, found)
	}
}

var (
	base64Run = regexp.MustCompile(`[A-Za-z0-9+/_-]{16,}`)
	blank     = regexp.MustCompile(`(?:[ \t\r\n]|\\n|\\r)+`)
)

// scan looks at b and at what is encoded in it. how tells what was undone so
// far.
func (s *Set) scan(where, how string, b []byte, depth int, found findings) {
	s.match(where, how, b, found)
	if depth == 0 {
		return
	}
	for _, plain := range inflate(b) {
		s.scan(where, how+plain.name+" > ", plain.body, depth-1, found)
	}
	s.scanBase64(where, how+"base64 > ", b, depth, found)
	if plain := unescape(b); len(plain) < len(b) {
		s.scan(where, how+"escaped > ", plain, depth-1, found)
	}
	// Base64 and keys are wrapped at line ends, in YAML with indentation.
	if joined := blank.ReplaceAll(b, nil); len(joined) < len(b) {
		s.match(where, how+"re-wrapped > ", joined, found)
		s.scanBase64(where, how+"re-wrapped base64 > ", joined, depth, found)
	}
}

// unescape undoes the escapes of JSON and of Go's quoted strings once, wherever
// they stand.
func unescape(b []byte) []byte {
	if !bytes.ContainsRune(b, '\\') {
		return b
	}
	out := make([]byte, 0, len(b))
	for text := string(b); text != ""; {
		r, multibyte, tail, err := strconv.UnquoteChar(text, 0)
		switch {
		case err != nil && len(text) > 1 && text[0] == '\\': // \" and \/ are JSON's own
			out, text = append(out, text[1]), text[2:]
		case err != nil || (!multibyte && r >= utf8.RuneSelf):
			out, text = append(out, text[0]), text[1:]
		default:
			out, text = utf8.AppendRune(out, r), tail
		}
	}
	return out
}

func (s *Set) match(where, how string, b []byte, found findings) {
	for _, sec := range s.secrets {
		for _, f := range sec.forms {
			if bytes.Contains(b, []byte(f.text)) {
				found.add(where, sec.name, how+f.name)
				break
			}
		}
	}
}

// scanBase64 decodes every run of base64 characters, from each of the four
// positions within a group: what precedes the encoded part may look like base64
// as well.
func (s *Set) scanBase64(where, how string, b []byte, depth int, found findings) {
	for _, run := range base64Run.FindAll(b, -1) {
		enc := base64.RawStdEncoding
		if bytes.ContainsAny(run, "-_") {
			enc = base64.RawURLEncoding
		}
		for offset := range 4 {
			part := run[offset:]
			part = part[:len(part)-len(part)%4+keep(len(part)%4)]
			plain := make([]byte, enc.DecodedLen(len(part)))
			n, err := enc.Decode(plain, part)
			if n == 0 || (err != nil && n < minLength) {
				continue
			}
			s.scan(where, how, plain[:n], depth-1, found)
		}
	}
}

// keep is how many characters of an incomplete group can be decoded.
func keep(rest int) int {
	if rest == 1 {
		return 0
	}
	return rest
}

type inflated struct {
	name string
	body []byte
}

// inflate returns the compressed pieces of b, wherever they begin: payloads of
// the codec are compressed inside a protobuf message.
func inflate(b []byte) []inflated {
	var out []inflated
	for i := 0; i+2 < len(b); i++ {
		switch {
		case b[i] == 0x1f && b[i+1] == 0x8b && b[i+2] == 8: // RFC 1952, 2.3.1
			if r, err := gzip.NewReader(bytes.NewReader(b[i:])); err == nil {
				out = appendRead(out, "gzip", r)
			}
		case b[i] == 0x78 && (uint(b[i])<<8|uint(b[i+1]))%31 == 0: // RFC 1950, 2.2
			if r, err := zlib.NewReader(bytes.NewReader(b[i:])); err == nil {
				out = appendRead(out, "zlib", r)
			}
		}
	}
	if len(out) == 0 && len(b) > 0 && len(b) < 1<<20 && b[0]&0x06 != 0x06 && !printable(b) {
		out = appendRead(out, "deflate", flate.NewReader(bytes.NewReader(b)))
	}
	return out
}

func printable(b []byte) bool {
	return !slices.ContainsFunc(b[:min(len(b), 64)], func(c byte) bool { return c < 9 || c > 126 })
}

// appendRead keeps what can be read: a piece that is cut off, or followed by
// something else, still shows what it began with.
func appendRead(out []inflated, name string, r io.ReadCloser) []inflated {
	body, readErr := io.ReadAll(io.LimitReader(r, maxInflated))
	closeErr := r.Close()
	if len(body) < minLength && (readErr != nil || closeErr != nil) {
		return out
	}
	return append(out, inflated{name, body})
}

// ScanReader scans everything that r holds.
func (s *Set) ScanReader(where string, r io.Reader) ([]Finding, error) {
	b, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	return s.Scan(where, b), nil
}

// ScanDir scans every regular file below root and returns how many there were.
// skip, if not nil, is asked for each file by its slash-separated path below
// root.
func (s *Set) ScanDir(root string, skip func(path string) bool) (files int, found []Finding, err error) {
	err = filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil || !d.Type().IsRegular() || (skip != nil && skip(filepath.ToSlash(rel))) {
			return err
		}
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		files++
		found = append(found, s.Scan(filepath.ToSlash(rel), b)...)
		return nil
	})
	return files, found, err
}
