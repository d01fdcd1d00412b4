package cloudscale

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"strings"
)

// digest is a short fingerprint of values, for comparison only.
func digest(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:8])
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
