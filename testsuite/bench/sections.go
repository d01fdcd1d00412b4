package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"
)

// section is a part of the page that is measured by itself.
type section struct {
	name string
	make func(context.Context, settings) (string, error)
}

// sections in the order of the page.
var sections = []section{
	{"provisioning", provisioning(onCloudscale)},
	{"aws", provisioning(onAWS)},
	{"provider", provider},
	{"scale-up", scaleUp},
	{"idle", idle},
	{"upgrade", upgrades},
}

func names() []string {
	// Not from sections, whose functions ask for the names.
	return []string{"provisioning", "aws", "provider", "scale-up", "idle", "upgrade"}
}

const head = `# Benchmarks

<!-- Written by ` + "`make bench`" + `; do not edit. -->

Measured on real processes: Temporal's development server, ` + "`ichor-worker`, `ichor-grpcprovider`" + ` and devcloud, the cloud on
loopback. ` + "`make bench`" + ` makes the whole page; each section says which command makes it alone, on which machine it was made, and
what that was busy with. Aims stand beside what was measured, whether held or not.
`

func opening(name string) string { return "<!-- begin " + name + " -->\n" }

func closing(name string) string { return "<!-- end " + name + " -->\n" }

// find returns the text of a section of a page.
func find(page, name string) (string, bool) {
	_, rest, begins := strings.Cut(page, opening(name))
	text, _, ends := strings.Cut(rest, closing(name))
	return text, begins && ends
}

// replace makes the page anew with another text for one section; what has not
// been measured yet is left out.
func replace(page, name, text string) string {
	var b strings.Builder
	b.WriteString(head)
	for _, n := range names() {
		old, ok := find(page, n)
		if n == name {
			old, ok = text, true
		}
		if ok {
			b.WriteString("\n" + opening(n) + old + closing(n))
		}
	}
	return b.String()
}

// made says which command made a section, and where.
func made(args, host string) string {
	return fmt.Sprintf("Made by\n\n```sh\ngo run ./testsuite/bench %s -out docs/reference/benchmarks.md\n```\n\non %s\n\n", args, host)
}

// watchHost returns a function that describes the machine and how busy it has
// been since.
func watchHost() func() string {
	before, busy, began := load(), processors(), time.Now()
	return func() string {
		return fmt.Sprintf("%s. The measurement took %s; the machine's load average was %s before\nit and %s after it, and its processors were busy for %.0f%% of that time, with everything that ran on it.",
			machine(), time.Since(began).Round(time.Second), before, load(), 100*busy())
	}
}

// load is the load average of the last minute.
func load() string {
	data, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	first, _, _ := strings.Cut(string(data), " ")
	return first
}

// held says whether an aim was held.
func held(ok bool) string {
	if ok {
		return "held"
	}
	return "**missed**"
}
