package proc

import (
	"io"
	"os"
	"strings"
)

// tailBytes bounds how much of a log is read to show its end.
const tailBytes = 32 << 10

// Tail returns at most the last lines of the process's log, for messages; a log
// that cannot be read yields the reason instead.
func (p *Process) Tail(lines int) string { return Tail(p.log, lines) }

// Tail returns at most the last lines of a file, or the reason why it cannot be
// read.
func Tail(path string, lines int) string {
	file, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	data, err := readEnd(file)
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(data), "\n"), "\n")
	if len(all) > lines {
		all = all[len(all)-lines:]
	}
	return strings.Join(all, "\n")
}

func readEnd(file *os.File) ([]byte, error) {
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if _, err := file.Seek(max(0, info.Size()-tailBytes), io.SeekStart); err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(file, tailBytes))
}
