package main

import (
	"bytes"
	"cmp"
	"image"
	"image/color"
	"image/png"
	"os"
	"slices"
)

// maxBytes is how large a picture in the repository may be.
const maxBytes = 200 << 10

// shrink rewrites a picture without its top and with at most 256 colours, which
// is plenty for interfaces, and returns its size.
func shrink(from, to string, top int) (int, error) {
	data, err := os.ReadFile(from)
	if err != nil {
		return 0, err
	}
	img, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		return 0, err
	}
	var out bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&out, reduce(img, top)); err != nil {
		return 0, err
	}
	return out.Len(), os.WriteFile(to, out.Bytes(), 0o644)
}

// reduce paints with the most frequent colours, each other one with the nearest
// of them.
func reduce(img image.Image, top int) *image.Paletted {
	area := img.Bounds()
	area.Min.Y += top
	counts := map[color.RGBA]int{}
	at := func(x, y int) color.RGBA {
		r, g, b, _ := img.At(x, y).RGBA()
		return color.RGBA{uint8(r >> 8), uint8(g >> 8), uint8(b >> 8), 0xff}
	}
	for y := area.Min.Y; y < area.Max.Y; y++ {
		for x := area.Min.X; x < area.Max.X; x++ {
			counts[at(x, y)]++
		}
	}
	palette := frequent(counts, 256)
	index := map[color.RGBA]uint8{}
	out := image.NewPaletted(area, palette)
	for y := area.Min.Y; y < area.Max.Y; y++ {
		for x := area.Min.X; x < area.Max.X; x++ {
			c := at(x, y)
			i, ok := index[c]
			if !ok {
				i = uint8(palette.Index(c))
				index[c] = i
			}
			out.SetColorIndex(x, y, i)
		}
	}
	return out
}

// frequent are the most frequent colours, in a fixed order.
func frequent(counts map[color.RGBA]int, most int) color.Palette {
	colors := make([]color.RGBA, 0, len(counts))
	for c := range counts {
		colors = append(colors, c)
	}
	number := func(c color.RGBA) int { return int(c.R)<<16 | int(c.G)<<8 | int(c.B) }
	slices.SortFunc(colors, func(a, b color.RGBA) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(number(a), number(b)))
	})
	var out color.Palette
	for _, c := range colors[:min(most, len(colors))] {
		out = append(out, c)
	}
	return out
}
