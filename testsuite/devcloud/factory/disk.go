package factory

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"slices"
	"strings"

	"github.com/ichor-project/ichor/testsuite/devcloud/guest"
)

// diskSize is that of a disk image, which is no multiple of the blocks that
// snapshots are made of; the gaps between the parts of it are larger than a
// block.
const diskSize = 3<<20 + 512

// disk stands in for the disk image of a platform whose images are written block
// by block: it says what it is at its beginning, in the middle and at its end,
// with nothing in between, so that each lost or displaced block shows.
func disk(schematic, version, arch string) []byte {
	out := make([]byte, diskSize)
	says := fmt.Appendf(nil, "%s %s aws-%s.raw\n", schematic, version, arch)
	for _, at := range []int{0, diskSize / 2, diskSize - len(says)} {
		copy(out[at:], says)
	}
	return out
}

// zipped is a disk image as the factory compresses it.
func zipped(text string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	// A buffer takes everything.
	if _, err := w.Write([]byte(text)); err != nil {
		panic(err)
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return b.String()
}

// Identify tells what a disk boots, given all of it up to the last byte that is
// not zero. A disk that is not exactly one of the factory's boots nothing.
func (f *Factory) Identify(have []byte) (guest.Image, bool) {
	line, _, _ := bytes.Cut(have, []byte("\n"))
	words := strings.Fields(string(line))
	if len(words) != 3 {
		return guest.Image{}, false
	}
	arch, ok := strings.CutSuffix(strings.TrimPrefix(words[2], "aws-"), ".raw")
	if !ok || !bytes.Equal(have, disk(words[0], words[1], arch)) {
		return guest.Image{}, false
	}
	s, ok := f.get(words[0])
	if !ok {
		return guest.Image{}, false
	}
	return guest.Image{
		Schematic: words[0], TalosVersion: words[1], Platform: "aws", Arch: arch,
		Extensions: slices.Clone(s.Customization.SystemExtensions.OfficialExtensions),
	}, true
}
