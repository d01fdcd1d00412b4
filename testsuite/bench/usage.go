package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// ticks is how many units of processor time /proc counts per second; Linux
// shows 100 to programs on every architecture that Go runs on.
const ticks = 100

// memory is the resident memory of a process, now and at most so far, in bytes.
type memory struct{ now, most int64 }

func (m memory) String() string {
	return fmt.Sprintf("%s (at most %s)", mebibytes(m.now), mebibytes(m.most))
}

func mebibytes(n int64) string { return fmt.Sprintf("%d MiB", n>>20) }

func memoryOf(pid int) (memory, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return memory{}, err
	}
	return parseMemory(string(data))
}

// parseMemory reads /proc/PID/status.
func parseMemory(status string) (m memory, err error) {
	for line := range strings.SplitSeq(status, "\n") {
		name, rest, _ := strings.Cut(line, ":")
		var into *int64
		switch name {
		case "VmRSS":
			into = &m.now
		case "VmHWM":
			into = &m.most
		default:
			continue
		}
		kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
		if err != nil {
			return m, fmt.Errorf("%s: %w", name, err)
		}
		*into = kib << 10
	}
	if m.now == 0 || m.most == 0 {
		return m, fmt.Errorf("no memory is told of in %q", status)
	}
	return m, nil
}

// processorOf is the processor time that a process has used.
func processorOf(pid int) (time.Duration, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	return parseProcessor(string(data))
}

// parseProcessor reads /proc/PID/stat: user and system time are its fields 14
// and 15; the second field, a name in parentheses, may contain spaces.
func parseProcessor(stat string) (time.Duration, error) {
	fields := strings.Fields(stat[strings.LastIndex(stat, ")")+1:])
	if len(fields) < 13 {
		return 0, fmt.Errorf("%q is too short", stat)
	}
	sum := time.Duration(0)
	for _, f := range fields[11:13] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, err
		}
		sum += time.Duration(n) * time.Second / ticks
	}
	return sum, nil
}
