package plan

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// rulesNow are the rules of Talos 1.10 to 1.14 as its machinery v1.14.1 has them.
func rulesNow() VersionRules {
	return VersionRules{
		Talos: []TalosRule{
			{Minor: "1.10", KubernetesFrom: "1.28.0", KubernetesBelow: "1.33.99", HostFrom: "1.8.0", HostBelow: "1.12.0"},
			{Minor: "1.11", KubernetesFrom: "1.29.0", KubernetesBelow: "1.34.99", HostFrom: "1.9.0", HostBelow: "1.13.0"},
			{Minor: "1.12", KubernetesFrom: "1.30.0", KubernetesBelow: "1.35.99", HostFrom: "1.10.0", HostBelow: "1.14.0"},
			{Minor: "1.13", KubernetesFrom: "1.31.0", KubernetesBelow: "1.36.99", HostFrom: "1.11.0", HostBelow: "1.15.0"},
			{Minor: "1.14", KubernetesFrom: "1.32.0", KubernetesBelow: "1.37.99", HostFrom: "1.12.0", HostBelow: "1.16.0"},
		},
		TalosReleases: []string{
			"v1.10.0", "v1.10.8", "v1.11.0", "v1.11.5", "v1.12.0", "v1.12.7", "v1.13.0-beta.1", "v1.13.0", "v1.13.9", "v1.14.0", "v1.14.1",
		},
		KubernetesReleases: []string{
			"v1.29.9", "v1.30.0", "v1.30.14", "v1.31.1", "v1.31.13", "v1.32.0", "v1.32.9", "v1.33.1", "v1.33.5",
			"v1.34.0", "v1.34.10", "v1.34.2", "v1.35.0-rc.1", "v1.35.0", "v1.35.4", "v1.35.5-rc.0", "v1.36.0", "v1.36.3", "v1.37.0-beta.0",
		},
		KubernetesMax: "1.37",
	}
}

// line writes a leg as tests do: kind and what the cluster runs after it.
func line(l Leg) string {
	s := string(l.Kind) + " " + l.To.Talos + " " + l.To.Kubernetes
	if l.To.Schematic != "" {
		s += " " + l.To.Schematic
	}
	return s
}

func lines(legs []Leg) []string {
	var out []string
	for _, l := range legs {
		out = append(out, line(l))
	}
	return out
}

func TestPlanLegs(t *testing.T) {
	for _, c := range []struct {
		name     string
		from, to Versions
		config   bool
		want     []string
		reasons  []string // a part of each leg's reason
	}{
		{
			name: "nothing differs",
			from: Versions{"v1.14.1", "s1", "v1.36.3"}, to: Versions{"v1.14.1", "s1", "v1.36.3"},
		},
		{
			name: "the same versions written otherwise",
			from: Versions{"v1.14.1", "s1", "v1.36.3"}, to: Versions{"1.14.1", "s1", "1.36.3"},
		},
		{
			name: "nothing is asked for",
			from: Versions{"v1.14.1", "s1", "v1.36.3"},
		},
		{
			name: "Talos first where both orders work",
			from: Versions{"v1.13.9", "s1", "v1.35.4"}, to: Versions{"v1.14.1", "s2", "v1.36.3"},
			want:    []string{"talos v1.14.1 v1.35.4 s2", "kubernetes v1.14.1 v1.36.3 s2"},
			reasons: []string{"both orders", ""},
		},
		{
			name: "one skipped minor of Talos is allowed",
			from: Versions{Talos: "v1.12.3", Kubernetes: "v1.34.2"}, to: Versions{Talos: "v1.14.1"},
			want: []string{"talos v1.14.1 v1.34.2"},
		},
		{
			name: "two are not, so it goes through the latest patch between",
			from: Versions{"v1.11.2", "s1", "v1.33.1"}, to: Versions{"v1.14.1", "s2", "v1.33.1"},
			want:    []string{"talos v1.13.9 v1.33.1 s1", "talos v1.14.1 v1.33.1 s2"},
			reasons: []string{"takes nodes from 1.12.0 on, so v1.11.2 goes through v1.13.9", ""},
		},
		{
			name: "Kubernetes goes one minor at a time",
			from: Versions{Talos: "v1.14.1", Kubernetes: "v1.33.5"}, to: Versions{Kubernetes: "v1.36.0"},
			want:    []string{"kubernetes v1.14.1 v1.34.10", "kubernetes v1.14.1 v1.35.4", "kubernetes v1.14.1 v1.36.0"},
			reasons: []string{"one minor at a time", "one minor at a time", "one minor at a time"},
		},
		{
			name: "a patch of Kubernetes",
			from: Versions{Talos: "v1.14.1", Kubernetes: "v1.36.0"}, to: Versions{Kubernetes: "v1.36.3"},
			want: []string{"kubernetes v1.14.1 v1.36.3"},
		},
		{
			name: "Talos first because the old one does not run the new Kubernetes",
			from: Versions{Talos: "v1.12.7", Kubernetes: "v1.35.4"}, to: Versions{Talos: "v1.13.9", Kubernetes: "v1.36.3"},
			want:    []string{"talos v1.13.9 v1.35.4", "kubernetes v1.13.9 v1.36.3"},
			reasons: []string{"Talos v1.12.7 does not run Kubernetes v1.36.3 yet", ""},
		},
		{
			name: "Kubernetes first because the new Talos does not run the old one",
			from: Versions{Talos: "v1.13.9", Kubernetes: "v1.31.13"}, to: Versions{Talos: "v1.14.1", Kubernetes: "v1.32.9"},
			want:    []string{"kubernetes v1.13.9 v1.32.9", "talos v1.14.1 v1.32.9"},
			reasons: []string{"Talos v1.14.1 does not run Kubernetes v1.31.13 any more", ""},
		},
		{
			name: "Kubernetes only as far as it must go before Talos",
			from: Versions{Talos: "v1.12.7", Kubernetes: "v1.30.14"}, to: Versions{Talos: "v1.14.1", Kubernetes: "v1.34.2"},
			want: []string{
				"kubernetes v1.12.7 v1.31.13", "kubernetes v1.12.7 v1.32.9", "talos v1.14.1 v1.32.9",
				"kubernetes v1.14.1 v1.33.5", "kubernetes v1.14.1 v1.34.2",
			},
		},
		{
			name: "both drag each other along",
			from: Versions{"v1.10.3", "s1", "v1.29.9"}, to: Versions{"v1.14.1", "s2", "v1.37.1"}, config: true,
			want: []string{
				"kubernetes v1.10.3 v1.30.14 s1", "talos v1.12.7 v1.30.14 s1",
				"kubernetes v1.12.7 v1.31.13 s1", "kubernetes v1.12.7 v1.32.9 s1", "talos v1.14.1 v1.32.9 s2",
				"kubernetes v1.14.1 v1.33.5 s2", "kubernetes v1.14.1 v1.34.10 s2", "kubernetes v1.14.1 v1.35.4 s2",
				"kubernetes v1.14.1 v1.36.3 s2", "kubernetes v1.14.1 v1.37.1 s2", "config v1.14.1 v1.37.1 s2",
			},
		},
		{
			name: "a schematic alone is installed as an upgrade is",
			from: Versions{"v1.14.1", "s1", "v1.36.3"}, to: Versions{Schematic: "s2"},
			want:    []string{"talos v1.14.1 v1.36.3 s2"},
			reasons: []string{"another schematic of the same version"},
		},
		{
			name: "a schematic before Kubernetes",
			from: Versions{"v1.14.1", "s1", "v1.35.4"}, to: Versions{Schematic: "s2", Kubernetes: "v1.36.3"},
			want: []string{"talos v1.14.1 v1.35.4 s2", "kubernetes v1.14.1 v1.36.3 s2"},
		},
		{
			name: "a schematic of a Talos that is unknown here changes no version",
			from: Versions{"v1.15.0", "s1", "v1.36.3"}, to: Versions{Schematic: "s2"}, config: true,
			want: []string{"talos v1.15.0 v1.36.3 s2", "config v1.15.0 v1.36.3 s2"},
		},
		{
			name: "configs alone", config: true,
			from: Versions{"v1.14.1", "s1", "v1.36.3"},
			want: []string{"config v1.14.1 v1.36.3 s1"},
		},
		{
			name: "a pre-release goes on to its release",
			from: Versions{Talos: "v1.14.0-beta.1", Kubernetes: "v1.36.3"}, to: Versions{Talos: "v1.14.0"},
			want: []string{"talos v1.14.0 v1.36.3"},
		},
		{
			name: "an unsupported pair may be left",
			from: Versions{Talos: "v1.12.7", Kubernetes: "v1.36.0"}, to: Versions{Talos: "v1.13.9", Kubernetes: "v1.36.3"},
			want: []string{"talos v1.13.9 v1.36.0", "kubernetes v1.13.9 v1.36.3"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			legs, refusals := PlanLegs(c.from, c.to, c.config, rulesNow())
			if len(refusals) > 0 {
				t.Fatalf("refused: %v", refusals)
			}
			if diff := cmp.Diff(c.want, lines(legs)); diff != "" {
				t.Fatal(diff)
			}
			for i, part := range c.reasons {
				if !strings.Contains(legs[i].Reason, part) || part == "" && legs[i].Reason != "" {
					t.Errorf("leg %d: reason %q does not say %q", i, legs[i].Reason, part)
				}
			}
			at := c.from
			for i, l := range legs {
				if l.From != at && l.Kind != LegConfig {
					t.Errorf("leg %d begins at %v, the one before ends at %v", i, l.From, at)
				}
				at = l.To
			}
		})
	}
}

func TestPlanLegsRefusals(t *testing.T) {
	few := rulesNow()
	few.KubernetesReleases = []string{"v1.34.2"}
	noTalos := rulesNow()
	noTalos.TalosReleases = nil
	for _, c := range []struct {
		name     string
		from, to Versions
		rules    VersionRules
		want     []string // field, kind and a part of the reason
	}{
		{
			"older Talos",
			Versions{Talos: "v1.14.1", Kubernetes: "v1.36.3"},
			Versions{Talos: "v1.13.9"},
			rulesNow(),
			[]string{"talos downgrade never downgraded automatically; ichor rollback NODE"},
		},
		{
			"older Kubernetes",
			Versions{Talos: "v1.14.1", Kubernetes: "v1.36.3"},
			Versions{Kubernetes: "v1.35.4"},
			rulesNow(),
			[]string{"kubernetes downgrade never downgraded"},
		},
		{
			"older patch of Kubernetes",
			Versions{Talos: "v1.14.1", Kubernetes: "v1.36.3"},
			Versions{Kubernetes: "v1.36.2"},
			rulesNow(),
			[]string{"kubernetes downgrade v1.36.3 runs and v1.36.2 is older"},
		},
		{
			"a pre-release of what runs",
			Versions{Talos: "v1.14.0", Kubernetes: "v1.36.3"},
			Versions{Talos: "v1.14.0-beta.1"},
			rulesNow(),
			[]string{"talos downgrade never downgraded"},
		},
		{
			"both at once",
			Versions{Talos: "v1.14.1", Kubernetes: "v1.36.3"},
			Versions{Talos: "latest", Kubernetes: "v1.35.0"},
			rulesNow(),
			[]string{"talos invalid \"latest\" is not a version", "kubernetes downgrade older"},
		},
		{
			"a Talos that is unknown here",
			Versions{Talos: "v1.14.1", Kubernetes: "v1.36.3"},
			Versions{Talos: "v1.15.0"},
			rulesNow(),
			[]string{"talos unknown Talos v1.15.0 is unknown here, which does not mean"},
		},
		{
			"from a Talos that is unknown here",
			Versions{Talos: "v1.7.0", Kubernetes: "v1.30.0"},
			Versions{Talos: "v1.10.8"},
			rulesNow(),
			[]string{"talos unknown Talos v1.7.0 is unknown here"},
		},
		{
			"Kubernetes on a Talos that is unknown here",
			Versions{Talos: "v1.15.0", Kubernetes: "v1.36.0"},
			Versions{Kubernetes: "v1.36.3"},
			rulesNow(),
			[]string{"talos unknown which Kubernetes it runs is not known"},
		},
		{
			"nobody knows what runs",
			Versions{},
			Versions{Talos: "v1.14.1", Kubernetes: "v1.36.3"},
			rulesNow(),
			[]string{"talos unknown which Talos runs", "kubernetes unknown which Kubernetes runs"},
		},
		{
			"nobody knows which Kubernetes runs",
			Versions{Talos: "v1.13.9"},
			Versions{Talos: "v1.14.1"},
			rulesNow(),
			[]string{"kubernetes unknown whether another Talos runs it"},
		},
		{
			"beyond the known path",
			Versions{Talos: "v1.14.1", Kubernetes: "v1.36.3"},
			Versions{Kubernetes: "v1.38.0"},
			rulesNow(),
			[]string{"kubernetes unknown no path to Kubernetes 1.38 is known here, which ends at 1.37"},
		},
		{
			"another major",
			Versions{Talos: "v1.14.1", Kubernetes: "v1.36.3"},
			Versions{Kubernetes: "v2.0.0"},
			VersionRules{Talos: rulesNow().Talos},
			[]string{"kubernetes unknown no path to Kubernetes 2.0 is known here, which ends at (none)"},
		},
		{
			"a Kubernetes that cannot be read",
			Versions{Talos: "v1.14.1", Kubernetes: "v1.36.3"},
			Versions{Kubernetes: "1.37.x"},
			rulesNow(),
			[]string{"kubernetes invalid \"1.37.x\" is not a version"},
		},
		{
			"no releases between",
			Versions{Talos: "v1.14.1", Kubernetes: "v1.32.9"},
			Versions{Kubernetes: "v1.36.3"},
			few,
			[]string{"kubernetes unknown no release of 1.33 is known here; upgrade to a patch of 1.33", "kubernetes unknown no release of 1.35"},
		},
		{
			"this Talos does not run it",
			Versions{Talos: "v1.12.7", Kubernetes: "v1.35.4"},
			Versions{Kubernetes: "v1.36.3"},
			rulesNow(),
			[]string{"kubernetes unsupported Talos v1.12.7 does not run Kubernetes v1.36.3, only from 1.30.0 to below 1.35.99"},
		},
		{
			"the new Talos does not run what stays",
			Versions{Talos: "v1.13.9", Kubernetes: "v1.31.13"},
			Versions{Talos: "v1.14.1"},
			rulesNow(),
			[]string{"talos unsupported Talos v1.14.1 does not run Kubernetes v1.31.13, only from 1.32.0"},
		},
		{
			"no Talos between is known",
			Versions{Talos: "v1.11.5", Kubernetes: "v1.33.5"},
			Versions{Talos: "v1.14.1"},
			noTalos,
			[]string{"talos unknown takes nodes from 1.12.0 on, and no allowed step leads there from v1.11.5; no release of 1.12 is known here"},
		},
		{
			"no pair in between",
			Versions{Talos: "v1.10.8", Kubernetes: "v1.29.9"},
			Versions{Talos: "v1.14.1", Kubernetes: "v1.37.0"},
			VersionRules{
				Talos: []TalosRule{
					{Minor: "1.10", KubernetesFrom: "1.28.0", KubernetesBelow: "1.30.0"},
					{Minor: "1.14", KubernetesFrom: "1.32.0", KubernetesBelow: "1.37.99"},
				},
				KubernetesReleases: rulesNow().KubernetesReleases, TalosReleases: rulesNow().TalosReleases,
			},
			[]string{"kubernetes unsupported no supported step leads on from Talos v1.10.8 with Kubernetes v1.29.9: Talos v1.14.1 runs Kubernetes from 1.32.0"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			legs, refusals := PlanLegs(c.from, c.to, true, c.rules)
			if len(legs) > 0 {
				t.Fatalf("legs in spite of refusals: %v", lines(legs))
			}
			var got []string
			for _, r := range refusals {
				got = append(got, fmt.Sprintf("%s %s %s", r.Field, r.Kind, r.Reason))
			}
			if len(got) != len(c.want) {
				t.Fatalf("got %q, want %q", got, c.want)
			}
			for i, want := range c.want {
				for _, part := range strings.SplitN(want, " ", 3) {
					if !strings.Contains(got[i], part) {
						t.Errorf("%q does not say %q", got[i], part)
					}
				}
			}
		})
	}
}
