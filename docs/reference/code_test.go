package reference_test

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	goBlock = regexp.MustCompile("(?ms)^```go\\n(.*?)^```")
	leftOut = regexp.MustCompile(`(?m)^[\t ]*// …\n`)
	goFile  = regexp.MustCompile(`\]\(([^)\s]+\.go)\)`)
)

// TestCodeIsQuoted holds Go on pages to the files that it is from: a block is text of
// the file whose link comes last before it. A line that is only "// …" stands for
// what is left out.
func TestCodeIsQuoted(t *testing.T) {
	quoted := 0
	for _, page := range pages(t) {
		body := read(t, page)
		for _, m := range goBlock.FindAllStringSubmatchIndex(body, -1) {
			links := goFile.FindAllStringSubmatch(body[:m[0]], -1)
			if len(links) == 0 {
				t.Errorf("%s: no link says where this is from:\n%s", page, body[m[2]:m[3]])
				continue
			}
			file := filepath.ToSlash(filepath.Join(filepath.Dir(page), links[len(links)-1][1]))
			rest := read(t, file)
			for _, part := range leftOut.Split(body[m[2]:m[3]], -1) {
				quoted++
				_, after, ok := strings.Cut(rest, strings.Trim(part, "\n"))
				if !ok {
					t.Errorf("%s quotes what is not, or not in this order, in %s:\n%s", page, file, part)
					break
				}
				rest = after
			}
		}
	}
	if quoted < 10 {
		t.Errorf("only %d quotations were found; does the pattern still fit?", quoted)
	}
}
