package main

import (
	"image"
	"image/color"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestScreen(t *testing.T) {
	for name, c := range map[string]struct {
		pieces []string
		want   []string
	}{
		"lines":            {[]string{"one\r\ntwo\r\n"}, []string{"one", "two"}},
		"colour":           {[]string{"\x1b[32m✔ done\x1b[0m next"}, []string{`<span class="c32">✔ done</span> next`}},
		"redrawn":          {[]string{"a\r\nbb\r\n", "\x1b[2A\r\x1b[Jc\r\n"}, []string{"c"}},
		"redrawn in part":  {[]string{"a\r\nbb\r\n", "\x1b[1A\r\x1b[Jc\r\n"}, []string{"a", "c"}},
		"split sequence":   {[]string{"\x1b[3", "3mx\x1b", "[0m"}, []string{`<span class="c33">x</span>`}},
		"markup is text":   {[]string{"<b>&"}, []string{"&lt;b&gt;&amp;"}},
		"overwritten line": {[]string{"abc\rx"}, []string{"xbc"}},
	} {
		t.Run(name, func(t *testing.T) {
			var s screen
			for _, p := range c.pieces {
				s.write(p)
			}
			if diff := cmp.Diff(c.want, s.html()); diff != "" {
				t.Errorf("the screen shows (-want +got):\n%s", diff)
			}
		})
	}
}

func TestTelling(t *testing.T) {
	for text, want := range map[string]int{
		"▶ nodes ready\n n1 booting 1s\n n2 ready 2s\n": 2,
		"▶ nodes ready\n n1 booting 1s\n":               0,
		"✔ nodes ready\n n1 booting 1s\n n2 ready 2s\n": 0,
	} {
		if got := telling(text); got != want {
			t.Errorf("telling(%q) = %d, want %d", text, got, want)
		}
	}
}

func TestReduce(t *testing.T) {
	img := image.NewRGBA(image.Rect(0, 0, 40, 40))
	for y := range 40 {
		for x := range 40 {
			img.Set(x, y, color.RGBA{uint8(6 * x), uint8(6 * y), 0, 0xff})
		}
	}
	got := reduce(img, 10)
	if got.Bounds().Dy() != 30 || len(got.Palette) != 256 {
		t.Errorf("got %v with %d colours, want 30 rows with 256", got.Bounds(), len(got.Palette))
	}
	few := image.NewRGBA(image.Rect(0, 0, 4, 4))
	few.Set(1, 1, color.RGBA{1, 2, 3, 0xff})
	if c := reduce(few, 0).At(1, 1); c != (color.RGBA{1, 2, 3, 0xff}) {
		t.Errorf("a colour among few became %v", c)
	}
}
