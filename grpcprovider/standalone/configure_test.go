package standalone

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	commonpb "go.temporal.io/api/common/v1"
	historypb "go.temporal.io/api/history/v1"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/workflows"
)

func TestStartTellsARunningGroupTheFile(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*workflows.GroupInput) // what the entity runs with
		want   string                      // "": it is not told
	}{
		{"max", func(g *workflows.GroupInput) { g.Max = 99 }, "max"},
		{"several", func(g *workflows.GroupInput) { g.Min, g.Flavor, g.ImageID = 0, "flex-2-1", "x" }, "flavor, image, min"},
		{"user data", func(g *workflows.GroupInput) { g.Standalone.UserData = &activities.UserData{Ref: "r", SHA256: "s"} }, "userData"},
		{"kubeconfig", func(g *workflows.GroupInput) { g.Standalone.Kube.None = true }, "kubeconfig"},
		{"labels and taints", func(g *workflows.GroupInput) {
			g.Standalone.Labels, g.Standalone.Taints = []cluster.Tag{{Key: "a"}}, []cluster.Taint{{Key: "b"}}
		}, "labels, taints"},
		{"its own state", func(g *workflows.GroupInput) {
			g.Target, g.Resumed, g.State = 7, true, &workflows.GroupState{Target: 7}
		}, ""},
		{"empty lists", func(g *workflows.GroupInput) { g.Networks, g.Standalone.Taints = []string{}, []cluster.Taint{} }, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, setup := newServer(t), load(t, "testdata/groups.yaml")
			old := load(t, "testdata/groups.yaml").Groups[0]
			tc.change(&old)
			s.begin(workerID, true, old)
			var log bytes.Buffer
			o := StartOptions{Log: slog.New(slog.NewJSONHandler(&log, nil))}
			if err := Start(t.Context(), s, setup, o); err != nil {
				t.Fatal(err)
			}
			if len(s.started) != 1 || s.started[0].ID != "cluster/shop/group/batch" {
				t.Errorf("started %v", s.started)
			}
			if tc.want == "" {
				if len(s.signals) != 0 {
					t.Errorf("told %v", s.signals)
				}
				return
			}
			if len(s.signals) != 1 {
				t.Fatalf("told %v", s.signals)
			}
			if diff := cmp.Diff(setup.Groups[0], s.signals[0].Input); diff != "" {
				t.Error(diff)
			}
			if want := `"changed":"` + tc.want + `"`; !strings.Contains(log.String(), want) || !strings.Contains(log.String(), "its machines stay, new ones are made so") {
				t.Errorf("the log lacks %s:\n%s", want, &log)
			}
		})
	}
}

// What a group was started with says nothing any more once it was told
// otherwise: the first file differs from the second, not from the input.
func TestStartGoesBackToTheFirstFile(t *testing.T) {
	s, a, b := newServer(t), load(t, "testdata/groups.yaml"), load(t, "testdata/groups.yaml")
	b.Groups[0].Max, b.Groups[0].Flavor = 99, "flex-32-8"
	starts := []struct {
		setup   Setup
		changed string
	}{
		{a, ""}, {b, "flavor, max"}, {a, "flavor, max"}, {b, "flavor, max"}, {b, ""},
	}
	ids := map[string]bool{}
	for i, start := range starts {
		var log bytes.Buffer
		if err := Start(t.Context(), s, start.setup, StartOptions{Log: slog.New(slog.NewJSONHandler(&log, nil))}); err != nil {
			t.Fatal(err)
		}
		if len(s.signals) != i {
			t.Fatalf("start %d: told %v", i, s.signals)
		}
		if i == 0 {
			continue
		}
		last := s.signals[i-1]
		ids[last.RequestID] = true
		if diff := cmp.Diff(start.setup.Groups[0], last.Input); diff != "" {
			t.Errorf("start %d: %s", i, diff)
		}
		if got := strings.Contains(log.String(), `"changed"`); got != (start.changed != "") || !strings.Contains(log.String(), start.changed) {
			t.Errorf("start %d: the log should have %q:\n%s", i, start.changed, &log)
		}
	}
	if len(ids) != len(starts)-1 {
		t.Errorf("request ids %v: the entity would take one for another", ids)
	}
	// The next run begins with what the last one was told.
	s.begin(workerID, true, b.Groups[0])
	if err := Start(t.Context(), s, b, StartOptions{}); err != nil || len(s.signals) != len(starts)-1 {
		t.Errorf("%v, told %v", err, s.signals)
	}
}

// Whoever told the group, and however: it is told the file.
func TestStartTellsAGroupThatWasToldByHand(t *testing.T) {
	setup := load(t, "testdata/groups.yaml")
	other := load(t, "testdata/groups.yaml").Groups[0]
	other.Max = 99
	foreign := other
	foreign.Standalone = nil
	for _, tc := range []struct {
		name  string
		event *historypb.HistoryEvent
		told  int
		log   string
	}{
		{"by update", updated(t, workflows.SignalConfigure, workflows.ConfigureRequest{Input: other}), 1, `"changed":"max"`},
		{"the same", updated(t, workflows.SignalConfigure, workflows.ConfigureRequest{Input: setup.Groups[0]}), 1, "told the file again"},
		{"unreadable", signalled(t, workflows.SignalConfigure, 7), 1, "told the file again"},
		{"refused by the entity", signalled(t, workflows.SignalConfigure, workflows.ConfigureRequest{Input: foreign}), 1, "told the file again"},
		{"something else", signalled(t, workflows.SignalPause, workflows.ScaleRequest{}), 0, "runs already"},
		{"another update", updated(t, workflows.SignalPause, workflows.ScaleRequest{}), 0, "runs already"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newServer(t)
			r := s.begin(workerID, true, setup.Groups[0])
			r.more = append(r.more, tc.event)
			var log bytes.Buffer
			if err := Start(t.Context(), s, setup, StartOptions{Log: slog.New(slog.NewJSONHandler(&log, nil))}); err != nil {
				t.Fatal(err)
			}
			if len(s.signals) != tc.told || !strings.Contains(log.String(), tc.log) {
				t.Errorf("told %v:\n%s", s.signals, &log)
			}
		})
	}
}

func TestStartOfAGroupThatEndsWhileItIsTold(t *testing.T) {
	s, setup := newServer(t), load(t, "testdata/groups.yaml")
	setup.Groups = setup.Groups[:1]
	old := load(t, "testdata/groups.yaml").Groups[0]
	old.Max = 99
	s.begin(workerID, true, old)
	s.ended = true
	if err := Start(t.Context(), s, setup, StartOptions{}); err != nil || len(s.started) != 1 || len(s.signals) != 0 {
		t.Errorf("%v, started %v, told %v", err, s.started, s.signals)
	}
	if !s.runs[workerID].in.Resumed || s.runs[workerID].in.Max != setup.Groups[0].Max {
		t.Errorf("started with %+v", s.runs[workerID].in)
	}
}

func TestStartRefusesWhatAGroupCannotBeTold(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*workflows.GroupInput)
		want   string
		stays  bool // no advice to terminate
	}{
		{name: "cloud", change: func(g *workflows.GroupInput) { g.Cloud.Provider, g.Cluster.UID = "other", "other" }, want: "another cloud than", stays: true},
		{name: "uid", change: func(g *workflows.GroupInput) { g.Cluster.UID = "other" }, want: "another cluster than", stays: true},
		{name: "credentials", change: func(g *workflows.GroupInput) {
			g.Cloud.Credentials, g.Cluster.UID, g.Standalone.Kube.Ref.UID = "env:B", "other", "other"
		}, want: "another credentials than", stays: true},
		{name: "tag", change: func(g *workflows.GroupInput) { g.Standalone.AdoptTag, g.Max = &cluster.Tag{Key: "a"}, 99 }, want: "another tag than"},
		{name: "tag of all", change: func(g *workflows.GroupInput) { g.Standalone.AdoptAlso = []cluster.Tag{{Key: "a"}} }, want: "another tag than"},
		{name: "no subnets any more", change: func(g *workflows.GroupInput) { g.Subnets = []string{"s"} }, want: "another subnets than"},
		{name: "no params any more", change: func(g *workflows.GroupInput) { g.Params = []cluster.Tag{{Key: "a", Value: "b"}} }, want: "another params than"},
		{name: "a cluster of Ichor", change: func(g *workflows.GroupInput) { g.Standalone = nil }, want: "serve that with --cluster shop", stays: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, setup := newServer(t), load(t, "testdata/groups.yaml")
			old := load(t, "testdata/groups.yaml").Groups[0]
			tc.change(&old)
			s.begin(workerID, true, old)
			err := Start(t.Context(), s, setup, StartOptions{})
			if len(s.started) != 1 || s.started[0].ID != "cluster/shop/group/batch" || len(s.signals) != 0 {
				t.Errorf("started %v, told %v; the other group is not affected", s.started, s.signals)
			}
			if !fault.Is(err, fault.Conflict) || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), workerID) {
				t.Fatalf("%v", err)
			}
			if tc.stays == strings.Contains(err.Error(), "terminate") {
				t.Errorf("advice: %v", err)
			}
		})
	}
}

// Subnets and parameters that a group was given by an earlier file stay when none are
// named.
func TestStartRefusesToTakeWhatWasToldLater(t *testing.T) {
	for name, give := range map[string]func(*workflows.GroupInput){
		"subnets": func(g *workflows.GroupInput) { g.Subnets = []string{"s"} },
		"params":  func(g *workflows.GroupInput) { g.Params = []cluster.Tag{{Key: "a", Value: "b"}} },
	} {
		s, setup, with := newServer(t), load(t, "testdata/groups.yaml"), load(t, "testdata/groups.yaml")
		give(&with.Groups[0])
		for i, step := range []struct {
			setup   Setup
			refused bool
		}{{setup, false}, {with, false}, {setup, true}, {with, false}} {
			if err := Start(t.Context(), s, step.setup, StartOptions{}); (err != nil) != step.refused || step.refused && !fault.Is(err, fault.Conflict) {
				t.Errorf("%s, start %d: %v", name, i, err)
			}
		}
	}
}

func TestStartRefusesAForeignWorkflow(t *testing.T) {
	s, setup := newServer(t), load(t, "testdata/groups.yaml")
	s.begin(workerID, true, setup.Groups[0]).kind = "Other"
	if err := Start(t.Context(), s, setup, StartOptions{}); !fault.Is(err, fault.Conflict) || !strings.Contains(err.Error(), `"Other"`) {
		t.Error(err)
	}
	s.begin(workerID, true, setup.Groups[0]).input = &commonpb.Payloads{Payloads: []*commonpb.Payload{{Metadata: map[string][]byte{"encoding": []byte("binary/encrypted")}}}}
	if err := Start(t.Context(), s, setup, StartOptions{}); !fault.Is(err, fault.Conflict) || !strings.Contains(err.Error(), "other keys") {
		t.Error(err)
	}
}
