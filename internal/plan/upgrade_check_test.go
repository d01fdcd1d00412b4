package plan

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/ichor-project/ichor/internal/cluster"
)

func TestCheckStrategy(t *testing.T) {
	minute := cluster.Duration(time.Minute)
	for _, c := range []struct {
		name string
		s    UpgradeStrategy
		want []string // field, or field and a part of the reason
	}{
		{name: "the careful default"},
		{
			name: "everything",
			s: UpgradeStrategy{
				MaxUnavailable: "10%", Canary: true, Soak: minute, FailureBudget: 2, Approve: ApproveNode, DrainTimeout: minute, Stable: minute,
				Groups: []GroupStrategy{
					{Group: "cp", MaxUnavailable: "1", Force: true},
					{Group: "a", MaxUnavailable: "3", Grace: minute},
					{Group: "b"},
				},
				Windows: []Window{{Days: []string{"sat", "sun"}, Start: "22:00", Length: minute}, {Start: "00:00", Length: cluster.Duration(MaxWindow)}},
				Gates: []Gate{
					{Name: "ready", Resource: "apps/v1/deployments", Namespace: "shop", Selector: "app=web", Expression: "object.status.readyReplicas > 0"},
					{Name: "pods", Resource: "v1/pods", Expression: "true"},
					{Name: "site", URL: "https://shop.example/healthz", Status: 204},
				},
			},
		},
		{
			name: "all at once, in the order of the fields",
			s: UpgradeStrategy{
				MaxUnavailable: "some", Soak: -minute, FailureBudget: -1, Approve: "always", DrainTimeout: -minute, Stable: -minute,
				Groups: []GroupStrategy{
					{Group: "cp", MaxUnavailable: "2"},
					{Group: "a", MaxUnavailable: "0"},
					{Group: "a", Grace: -minute},
					{Group: "zz", MaxUnavailable: "101%"},
					{},
				},
				Windows: []Window{
					{Days: []string{"mon", "Tue", "mon"}, Start: "24:00"},
					{Start: "7:30", Length: cluster.Duration(MaxWindow) + 1},
				},
				Gates: []Gate{
					{Name: "a"},
					{Name: "a", URL: "shop.example"},
					{Name: "b", Resource: "pods", Expression: "true"},
					{Name: "c", Resource: "apps//deployments"},
					{Name: "d", Expression: "true"},
					{Name: "e", Resource: "v1/pods", Expression: "true", URL: "https://shop.example"},
					{URL: "https://user:pass@shop.example", Status: 99},
					{Name: "f", Namespace: "x"},
					{Name: "g", Status: 200},
				},
			},
			want: []string{
				"strategy.maxUnavailable must be a number or a percentage",
				"strategy.groups[0].maxUnavailable control planes go one at a time",
				"strategy.groups[1].maxUnavailable must be at least 1",
				"strategy.groups[2].group \"a\" is there twice",
				"strategy.groups[2].grace",
				"strategy.groups[3].group the cluster has no group \"zz\"",
				"strategy.groups[3].maxUnavailable must be at most 100%",
				"strategy.groups[4].group is required",
				"strategy.soak must not be negative",
				"strategy.failureBudget",
				"strategy.windows[0].days[1]",
				"strategy.windows[0].days[2] mon is there twice",
				"strategy.windows[0].start",
				"strategy.windows[0].length",
				"strategy.windows[1].start",
				"strategy.windows[1].length",
				"strategy.approve",
				"strategy.drainTimeout",
				"strategy.stable",
				"strategy.gates[0] needs resource and expression, or url",
				"strategy.gates[1].name \"a\" is there twice",
				"strategy.gates[1].url",
				"strategy.gates[2].resource",
				"strategy.gates[3].resource",
				"strategy.gates[3].expression",
				"strategy.gates[4].resource is required with expression",
				"strategy.gates[5] checks either objects or a URL",
				"strategy.gates[6].name",
				"strategy.gates[6].url must not hold credentials",
				"strategy.gates[6].status",
				"strategy.gates[7].resource is required",
				"strategy.gates[7].expression",
				"strategy.gates[8] needs resource and expression, or url",
			},
		},
		{name: "a soak of nothing", s: UpgradeStrategy{Soak: minute}, want: []string{"strategy.soak needs canary"}},
		{name: "a percentage of nothing", s: UpgradeStrategy{MaxUnavailable: "%"}, want: []string{"strategy.maxUnavailable"}},
		{name: "a sign", s: UpgradeStrategy{MaxUnavailable: "+3"}, want: []string{"strategy.maxUnavailable"}},
		{name: "none at all", s: UpgradeStrategy{MaxUnavailable: "0%"}, want: []string{"strategy.maxUnavailable must be at least 1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := CheckStrategy(c.s, []string{"a", "b"})
			var fields, want []string
			for i, r := range got {
				fields = append(fields, r.Field)
				if r.Kind != RefusedInvalid {
					t.Errorf("%s is %q", r.Field, r.Kind)
				}
				if i < len(c.want) {
					if _, part, _ := strings.Cut(c.want[i], " "); !strings.Contains(r.Reason, part) || r.Reason == "" {
						t.Errorf("%s: %q does not say %q", r.Field, r.Reason, part)
					}
				}
				if strings.Contains(r.Reason, "pass") {
					t.Errorf("a password is repeated: %q", r.Reason)
				}
			}
			for _, w := range c.want {
				field, _, _ := strings.Cut(w, " ")
				want = append(want, field)
			}
			if diff := cmp.Diff(want, fields); diff != "" {
				t.Fatal(diff)
			}
		})
	}
}

// A strategy that can be carried out is not refused.
func TestCheckStrategyTakesWhatWorks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		if found := CheckStrategy(strategies().Draw(t, "strategy"), []string{"g0", "g1"}); len(found) > 0 {
			t.Fatalf("refused: %v", found)
		}
	})
}
