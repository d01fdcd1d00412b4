package main

import (
	"os/exec"
	"strings"
	"testing"
)

func TestWatchTerminal(t *testing.T) {
	for _, c := range []struct {
		name, script, want string
		fails              bool
	}{
		{"to its end", "test -t 1 && echo first && echo last", "last", false},
		{"after a failure", "echo broken; exit 3", "exit status 3:\nbroken", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			shown := 0
			s, err := watchTerminal(t.Context(), exec.CommandContext(t.Context(), "/bin/sh", "-c", c.script), func(*screen) { shown++ })
			if shown == 0 {
				t.Error("nothing was shown")
			}
			if c.fails {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("got %v, want an error with %q", err, c.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if text := s.text(); !strings.Contains(text, c.want) {
				t.Errorf("the screen shows %q, want %q", text, c.want)
			}
		})
	}
}
