package cluster

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// suggestion names the known field that was probably meant, or lists all.
func suggestion[V any](key string, fields map[string]V) string {
	names := slices.Sorted(maps.Keys(fields))
	best, least := "", 3 // three edits apart is another word
	for _, name := range names {
		if n := distance(strings.ToLower(key), strings.ToLower(name)); n < least {
			best, least = name, n
		}
	}
	if best != "" {
		return fmt.Sprintf("; did you mean %s?", best)
	}
	return "; known are " + strings.Join(names, ", ")
}

// distance counts the single-character edits between two words.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			diagonal, row[j] = row[j], min(row[j]+1, row[j-1]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
