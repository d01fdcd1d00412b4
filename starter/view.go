package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"

	"github.com/ichor-project/ichor/workflows"
)

// newView chooses how a run is shown: redrawn on a terminal, as lines elsewhere,
// as lines of JSON for machines.
func (a *app) newView(name, kind string) view {
	if a.cfg.Output == outputJSON {
		return &lineView{out: a.out, json: true}
	}
	if f, ok := terminal(a.out); ok {
		v := &screenView{out: f, file: f, title: kind + " " + name, color: a.getenv("NO_COLOR") == ""}
		return v
	}
	return &lineView{out: a.out}
}

// lineView prints changes.
type lineView struct {
	out  io.Writer
	json bool
	last workflows.Progress
}

func (v *lineView) progress(p workflows.Progress) {
	for _, e := range changes(v.last, p, time.Now()) {
		v.print(e)
	}
	v.last = p
}

func (v *lineView) print(e event) {
	if !v.json {
		fmt.Fprintln(v.out, e.line())
		return
	}
	if b, err := json.Marshal(e); err == nil { // text and numbers always encode
		fmt.Fprintln(v.out, string(b))
	}
}

func (v *lineView) notice(text string) {
	e := event{Time: time.Now().UTC(), Event: "notice", Detail: text}
	if start := began(v.last); !start.IsZero() {
		e.Elapsed = seconds(time.Since(start))
	}
	v.print(e)
}

func (v *lineView) tick() {}
func (v *lineView) end()  {}

// quietView tells only what keeps a run from going on.
type quietView struct {
	out    io.Writer
	parked string
}

func (v *quietView) progress(p workflows.Progress) {
	if p.Parked != "" && p.Parked != v.parked {
		v.notice("parked: " + p.Parked)
	}
	v.parked = p.Parked
}

func (v *quietView) notice(text string) { fmt.Fprintln(v.out, printable(text)) }
func (v *quietView) tick()              {}
func (v *quietView) end()               {}

// screenView redraws one frame in place.
type screenView struct {
	out   io.Writer
	file  *os.File
	title string
	color bool
	last  workflows.Progress
	note  string
	lines int // of the frame on the screen
	drawn time.Time
	begun time.Time
}

func (v *screenView) progress(p workflows.Progress) {
	v.last, v.note = p, ""
	v.draw()
}

func (v *screenView) notice(text string) {
	v.note = text
	v.draw()
}

// redrawEvery keeps elapsed times moving without flicker.
const redrawEvery = 250 * time.Millisecond

func (v *screenView) tick() {
	if time.Since(v.drawn) >= redrawEvery {
		v.draw()
	}
}

func (v *screenView) end() { v.draw() }

func (v *screenView) draw() {
	width, height, err := term.GetSize(int(v.file.Fd()))
	if err != nil || width <= 0 || height <= 0 {
		width, height = 80, 24
	}
	now := time.Now()
	if v.begun.IsZero() {
		v.begun = now
	}
	start := began(v.last)
	if start.IsZero() {
		start = v.begun
	}
	f := frame{title: v.title, progress: v.last, note: v.note, start: start, now: now, width: width, height: height - 1, color: v.color}
	lines := f.render()
	if v.lines > 0 {
		fmt.Fprintf(v.out, "\x1b[%dA\r\x1b[J", v.lines)
	}
	for _, l := range lines {
		fmt.Fprintln(v.out, l)
	}
	v.lines, v.drawn = len(lines), now
}
