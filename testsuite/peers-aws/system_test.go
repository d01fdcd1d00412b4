package peersaws

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ichor-project/ichor/testsuite/stack"
	"github.com/ichor-project/ichor/workflows"
)

const (
	speed = 40
	name  = "judged"
	// patience bounds every wait; it only matters when something is broken.
	patience = 3 * time.Minute
)

// system is a whole Ichor with a cluster on AWS, and the judge of it.
type system struct {
	*stack.Stack
	judge judge
	uid   string // of the cluster
}

// start makes a cluster: a control plane, and a group with a machine.
func start(t *testing.T) *system {
	t.Helper()
	cloud, err := stack.Named("aws")
	if err != nil {
		t.Fatal(err)
	}
	root, bin, err := stack.Programs(cloud.Programs...)
	if err != nil {
		t.Fatal(err)
	}
	settings := stack.Scaled(speed)
	settings["ICHOR_RECONCILE_INTERVAL"] = "5s"
	s := &system{}
	s.Stack, err = stack.Start(t.Context(), stack.Options{
		Bin: bin, Dir: t.TempDir(), Speed: speed, LoopbackPrefix: fmt.Sprintf("127.%d", 40+rand.IntN(60)), UIPort: -1, Settings: settings,
	})
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the last lines of the logs:\n%s", s.Tail(25))
		}
		if err := s.Close(); err != nil {
			t.Errorf("stop the system: %v", err)
		}
	})
	if err == nil {
		_, err = s.StartWorker(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	s.judge = newJudge(t, s.AWSOwner)
	// Pages of two make everybody ask for the next one.
	s.settings(t, map[string]any{"pageLimit": 2})
	spec, err := stack.Example(root, cloud.Autoscale, name)
	if err != nil {
		t.Fatal(err)
	}
	spec = stack.Small(spec)
	spec.Spec.NodeGroups[0].Flavor = "m6i.large"
	file, err := s.WriteSpec(spec)
	if err != nil {
		t.Fatal(err)
	}
	s.ichor(t, `Cluster "`+name+`" is ready: 2 nodes`, "provision", "-f", file)
	s.uid = s.status(t).Cluster.UID
	return s
}

// settings changes some of the account's settings.
func (s *system) settings(t *testing.T, some map[string]any) {
	t.Helper()
	const path = "_devcloud/aws/settings"
	all := map[string]any{}
	if err := s.Cloud(t.Context(), http.MethodGet, path, nil, &all); err != nil {
		t.Fatal(err)
	}
	maps.Copy(all, some)
	if err := s.Cloud(t.Context(), http.MethodPut, path, all, nil); err != nil {
		t.Fatal(err)
	}
}

// ichor runs the command line, which must succeed and say the text.
func (s *system) ichor(t *testing.T, text string, args ...string) string {
	t.Helper()
	r, err := s.Ichor(t.Context(), args...)
	if err != nil || r.Code != 0 || !strings.Contains(r.Stdout+r.Stderr, text) {
		t.Fatalf("ichor %s: %v, want %q\n%s", strings.Join(args, " "), err, text, r)
	}
	return r.Stdout
}

// status is what `ichor status -o json` says.
type status struct {
	Cluster struct{ UID string }
	Groups  []workflows.GroupStatus
}

func (s *system) status(t *testing.T) status {
	t.Helper()
	var st status
	if err := json.Unmarshal([]byte(s.ichor(t, "", "status", name, "-o", "json")), &st); err != nil {
		t.Fatal(err)
	}
	return st
}

// machines are the ids of the instances that Ichor has for the cluster.
func (s *system) machines(t *testing.T) []string {
	t.Helper()
	var ids []string
	for _, g := range s.status(t).Groups {
		for _, m := range g.Members {
			ids = append(ids, m.CloudID)
		}
	}
	slices.Sort(ids)
	return ids
}

// tagged are the filters for what belongs to the cluster, and to a group of it.
func (s *system) tagged(group string) []string {
	filters := []string{"--filters", "Name=tag:ichor/cluster,Values=" + s.uid}
	if group != "" {
		filters = append(filters, "Name=tag:ichor/group,Values="+group)
	}
	return filters
}

// instances asks for the ids of the cluster's instances in the given states.
func (s *system) instances(t *testing.T, group string, states ...string) []string {
	t.Helper()
	args := append([]string{"ec2", "describe-instances"}, s.tagged(group)...)
	args = append(args, "Name=instance-state-name,Values="+strings.Join(states, ","), "--query", "Reservations[].Instances[].InstanceId")
	ids := asks[[]string](t, s.judge, args...)
	slices.Sort(ids)
	return ids
}

func (s *system) until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(200 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it never happened: %s", what)
		}
	}
}
