package talos

import (
	"bytes"
	"crypto/sha256"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func sealed(body []byte) []byte {
	sum := sha256.Sum256(body)
	return slices.Concat(body, sum[:])
}

// A snapshot is whole however it is cut into messages, and one that was damaged
// anywhere, or ended early, is not.
func TestChecksum(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pages := rapid.IntRange(1, 4).Draw(t, "pages")
		body := bytes.Repeat(rapid.SliceOfN(rapid.Byte(), 64, 64).Draw(t, "body"), pages*snapshotPage/64)
		data := sealed(body)
		if problem := follow(t, data); problem != "" {
			t.Fatalf("whole: %s", problem)
		}
		short := data[:rapid.IntRange(0, len(data)-1).Draw(t, "cut")]
		if problem := follow(t, short); problem == "" {
			t.Fatalf("cut to %d of %d bytes: nothing wrong", len(short), len(data))
		}
		at := rapid.IntRange(0, len(data)-1).Draw(t, "damage")
		broken := slices.Clone(data)
		broken[at] ^= 0x40
		if problem := follow(t, broken); problem == "" {
			t.Fatalf("damaged at %d: nothing wrong", at)
		}
	})
}

func follow(t *rapid.T, data []byte) string {
	c := newChecksum()
	for rest := data; len(rest) > 0; {
		n := rapid.IntRange(1, len(rest)).Draw(t, "message")
		if written, err := c.Write(rest[:n]); written != n || err != nil {
			t.Fatalf("written %d of %d: %v", written, n, err)
		}
		rest = rest[n:]
	}
	return c.check()
}
