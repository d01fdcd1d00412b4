package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/workflows"
)

var update = flag.Bool("update", false, "write golden files")

var t0 = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func at(s float64) time.Time { return t0.Add(time.Duration(s * float64(time.Second))) }

func sample() workflows.Progress {
	return workflows.Progress{
		Cluster: cluster.Ref{Name: "demo", UID: "u1"}, Kind: workflows.TypeProvisionCluster, Phase: cluster.PhaseCreating,
		Steps: []workflows.StepStatus{
			{Name: "check spec, open record", State: workflows.StepDone, Started: at(0), Ended: at(0.2)},
			{Name: "network and endpoint", State: workflows.StepDone, Started: at(0.2), Ended: at(31)},
			{Name: "control plane machines", State: workflows.StepDoing, Started: at(31), Detail: "2 of 3 run"},
			{Name: "bootstrap etcd", State: workflows.StepPending},
		},
		Nodes: []workflows.MemberStatus{
			{ID: "aaaaa", Group: "cp", Name: "demo-cp-aaaaa", Role: cluster.RoleControlPlane, Phase: workflows.MemberReady, Since: at(40), Address: "203.0.113.7"},
			{ID: "bbbbb", Group: "cp", Name: "demo-cp-bbbbb", Role: cluster.RoleControlPlane, Phase: workflows.MemberBooting, Since: at(61), Note: "waits for the machine API"},
			{ID: "ccccc", Group: "cp", Name: "demo-cp-ccccc", Role: cluster.RoleControlPlane, Phase: workflows.MemberFailed, Since: at(62), Note: "quota\x1b[2J reached"},
		},
		Parked: "delete server: token refused — fix the credentials, then send the signal resume",
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

func TestFrame(t *testing.T) {
	f := frame{title: "ProvisionCluster demo", progress: sample(), start: t0, now: at(75), width: 100, height: 40}
	golden(t, "frame.golden", strings.Join(f.render(), "\n")+"\n")
	f.height, f.width = 12, 60
	golden(t, "frame-small.golden", strings.Join(f.render(), "\n")+"\n")
}

func TestFrameFitsAnyScreen(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := sample()
		for i := range rapid.IntRange(0, 40).Draw(t, "nodes") {
			n := p.Nodes[i%3]
			n.Name, n.Note = rapid.StringMatching(`[a-z-]{1,63}`).Draw(t, "name"), rapid.String().Draw(t, "note")
			p.Nodes = append(p.Nodes, n)
		}
		f := frame{
			title: "x", progress: p, start: t0, now: at(75), color: rapid.Bool().Draw(t, "color"),
			width: rapid.IntRange(2, 120).Draw(t, "width"), height: rapid.IntRange(2, 60).Draw(t, "height"),
		}
		lines := f.render()
		if len(lines) > f.height {
			t.Fatalf("%d lines on a screen of %d", len(lines), f.height)
		}
		for _, l := range lines {
			for _, code := range []string{green, yellow, red, dim, "0"} {
				l = strings.ReplaceAll(l, "\x1b["+code+"m", "")
			}
			if n := utf8.RuneCountInString(l); n > f.width {
				t.Fatalf("a line of %d characters on a screen of %d: %q", n, f.width, l)
			}
			if strings.ContainsFunc(l, func(r rune) bool { return r < ' ' }) {
				t.Fatalf("control characters reach the screen: %q", l)
			}
		}
	})
}

func TestChangesTellEverythingOnce(t *testing.T) {
	seen := at(80)
	first := changes(workflows.Progress{}, sample(), seen)
	var got []string
	for _, e := range first {
		got = append(got, e.line())
	}
	want := []string{
		"     0.2s  check spec, open record: done in 0.2s",
		"    31.0s  network and endpoint: done in 30.8s",
		"    31.0s  control plane machines: doing: 2 of 3 run",
		"    40.0s  node demo-cp-aaaaa: ready: 203.0.113.7",
		"    61.0s  node demo-cp-bbbbb: booting: waits for the machine API",
		"    62.0s  node demo-cp-ccccc: failed: quota [2J reached",
		"    80.0s  parked: delete server: token refused — fix the credentials, then send the signal resume",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
	if again := changes(sample(), sample(), seen); len(again) > 0 {
		t.Errorf("nothing changed, but: %v", again)
	}
	next := sample()
	next.Parked, next.Endpoint = "", "https://198.51.100.1:6443"
	next.Steps[2].Detail = "3 of 3 run"
	next.Failure = &workflows.Failure{Kind: fault.Quota, Message: "no more servers"}
	next.Notes, next.Remaining = []string{"could not list"}, []string{"network demo (n1)"}
	got = nil
	for _, e := range changes(sample(), next, seen) {
		got = append(got, e.line())
	}
	want = []string{
		"    80.0s  control plane machines: doing: 3 of 3 run",
		"    80.0s  endpoint: https://198.51.100.1:6443",
		"    80.0s  resumed",
		"    80.0s  failed (Quota): no more servers",
		"    80.0s  note: could not list",
		"    80.0s  remains: network demo (n1)",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
}

func TestLineViewSpeaksJSON(t *testing.T) {
	var out bytes.Buffer
	v := &lineView{out: &out, json: true}
	v.progress(sample())
	v.notice("no worker answers")
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 8 {
		t.Fatalf("%d lines, want 8:\n%s", len(lines), out.String())
	}
	for _, l := range lines {
		var e event
		if err := json.Unmarshal([]byte(l), &e); err != nil || e.Event == "" || e.Time.IsZero() {
			t.Errorf("%q: %+v, %v", l, e, err)
		}
	}
}

func TestDifferencesNameFields(t *testing.T) {
	a := cluster.Spec{Talos: cluster.Talos{Version: "v1.13.5", Extensions: []string{"a/b"}}, NodeGroups: []cluster.NodeGroup{{Name: "x", Max: 3}}}
	b := a
	b.Talos.Version, b.Talos.Extensions = "v1.13.6", nil
	b.NodeGroups = []cluster.NodeGroup{{Name: "x", Max: 4}, {Name: "y", Max: 1, Flavor: "f"}}
	got := differences(a, b)
	for _, want := range []string{
		"spec.nodeGroups[0].max is 4, was 3", "spec.nodeGroups[1].name is new: y",
		"spec.talos.extensions[0] is gone, was a/b", "spec.talos.version is v1.13.6, was v1.13.5",
	} {
		if !strings.Contains(strings.Join(got, "\n"), want) {
			t.Errorf("%q is not among:\n%s", want, strings.Join(got, "\n"))
		}
	}
	if same := differences(a, a); len(same) > 0 {
		t.Errorf("equal specs differ: %v", same)
	}
}
