package main

import (
	"context"
	"errors"
	"fmt"
	"html"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/ichor-project/ichor/testsuite/proc"
)

// watchTerminal runs a command on a new pseudo-terminal and calls show after
// every piece of output. It returns what stands on the screen at the end.
func watchTerminal(ctx context.Context, cmd *exec.Cmd, show func(*screen)) (*screen, error) {
	master, slave, err := openTerminal()
	if err != nil {
		return nil, err
	}
	defer func() { _ = master.Close() }() // nothing is written to it
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	ended := make(chan error, 1)
	go func() { ended <- errors.Join(proc.Run(cmd), slave.Close()) }()
	s := &screen{}
	buf := make([]byte, 32<<10)
	for {
		n, rerr := master.Read(buf)
		if n > 0 {
			s.write(string(buf[:n]))
			show(s)
		}
		// A terminal without a program at the other end reads as an I/O error.
		if errors.Is(rerr, io.EOF) || errors.Is(rerr, syscall.EIO) {
			break
		}
		if rerr != nil {
			return nil, errors.Join(rerr, <-ended)
		}
	}
	if err := <-ended; err != nil {
		return nil, errors.Join(ctx.Err(), fmt.Errorf("%w:\n%s", err, s.text()))
	}
	return s, nil
}

func openTerminal() (master, slave *os.File, err error) {
	master, err = os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		return nil, nil, err
	}
	fd := int(master.Fd())
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: columns})
	}
	if err == nil {
		slave, err = os.OpenFile("/dev/pts/"+strconv.Itoa(number), os.O_RDWR|syscall.O_NOCTTY, 0)
	}
	if err != nil {
		return nil, nil, errors.Join(err, master.Close())
	}
	return master, slave, nil
}

// screen understands what the command's display uses: text, line ends, cursor
// up, erase to the end, and colours.
type screen struct {
	lines  [][]cell
	row    int
	column int
	style  string
	rest   string // an escape sequence whose end has not come yet
}

type cell struct {
	r     rune
	style string // the parameter of the colour sequence
}

func (s *screen) write(text string) {
	text = s.rest + text
	s.rest = ""
	for text != "" {
		if text[0] == '\x1b' {
			n := s.escape(text)
			if n == 0 {
				s.rest = text
				return
			}
			text = text[n:]
			continue
		}
		end := strings.IndexByte(text, '\x1b')
		if end < 0 {
			end = len(text)
		}
		for _, r := range text[:end] {
			s.put(r)
		}
		text = text[end:]
	}
}

// escape obeys the sequence at the beginning of text and returns its length, 0
// if it is not complete.
func (s *screen) escape(text string) int {
	end := strings.IndexFunc(text, func(r rune) bool { return r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' })
	if end < 0 {
		return 0
	}
	parameter := strings.TrimPrefix(text[1:end], "[")
	switch text[end] {
	case 'A':
		n, err := strconv.Atoi(parameter)
		if err != nil {
			n = 1
		}
		s.row = max(s.row-n, 0)
	case 'J':
		s.lines = s.lines[:min(s.row, len(s.lines))]
	case 'm':
		s.style = parameter
		if parameter == "0" {
			s.style = ""
		}
	}
	return end + 1
}

func (s *screen) put(r rune) {
	switch r {
	case '\r':
		s.column = 0
		return
	case '\n':
		s.row++
		return
	}
	for len(s.lines) <= s.row {
		s.lines = append(s.lines, nil)
	}
	for len(s.lines[s.row]) <= s.column {
		s.lines[s.row] = append(s.lines[s.row], cell{r: ' '})
	}
	s.lines[s.row][s.column] = cell{r, s.style}
	s.column++
}

func (s *screen) text() string {
	var b strings.Builder
	for _, line := range s.lines {
		for _, c := range line {
			b.WriteRune(c.r)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// html returns the lines with colours as classes: c32 is what "32" paints.
func (s *screen) html() []string {
	out := make([]string, 0, len(s.lines))
	for _, line := range s.lines {
		var b strings.Builder
		style := ""
		for _, c := range line {
			if c.style != style {
				if style != "" {
					b.WriteString("</span>")
				}
				if c.style != "" {
					b.WriteString(`<span class="c` + html.EscapeString(c.style) + `">`)
				}
				style = c.style
			}
			b.WriteString(html.EscapeString(string(c.r)))
		}
		if style != "" {
			b.WriteString("</span>")
		}
		out = append(out, b.String())
	}
	return out
}

// terminalPage is a terminal as a page. Its sizes are those that the camera
// assumes: cells of 8 by 20 pixels.
func terminalPage(prompt string, lines []string) string {
	return `<!doctype html><meta charset="utf-8"><style>
body { margin: 0; background: #16181d; color: #d7dae0; }
pre { margin: 0; padding: 18px 20px; font: 13.3px/20px "DejaVu Sans Mono", monospace; }
.prompt { color: #8ab4f8; } .c32 { color: #7fd18c; } .c33 { color: #e5c07b; } .c31 { color: #ef6b73; } .c2 { color: #7b818d; }
</style><pre><span class="prompt">$</span> ` + html.EscapeString(prompt) + "\n" + strings.Join(lines, "\n") + "\n</pre>\n"
}
