package compare

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func read(t *testing.T, doc string) fields {
	t.Helper()
	f, err := readConfig([]byte(doc), []byte(doc))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestFieldsOfDocuments(t *testing.T) {
	f := read(t, `
machine:
  nodeLabels: {example.com/tier: x}
  kernel: {modules: [{name: b}, {name: a, parameters: [p]}]}
  sysctls: {}
cluster: {network: {podSubnets: [10.0.0.0/8, 192.168.0.0/16]}}
---
apiVersion: v1alpha1
kind: NetworkRuleConfig
name: api
ingress: [{subnet: 10.0.0.0/8}, {subnet: 10.0.0.0/8, except: 10.1.0.0/16}]
---
apiVersion: v1alpha1
kind: HostnameConfig
hostname: h
`)
	got := map[string]string{}
	for path, v := range f {
		got[path] = *v.shown()
	}
	want := map[string]string{
		`machine.nodeLabels["example.com/tier"]`: "x",
		"machine.kernel.modules":                 "[b, a]",
		"machine.kernel.modules[a].parameters":   "[p]",
		"machine.sysctls":                        "{}",
		"cluster.network.podSubnets":             "[10.0.0.0/8, 192.168.0.0/16]",
		"NetworkRuleConfig[api].ingress":         `[subnet: 10.0.0.0/8, {"except":"10.1.0.0/16","subnet":"10.0.0.0/8"}]`,
		"HostnameConfig.hostname":                "h",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestOrderOfNamedElements(t *testing.T) {
	a, b := read(t, "a: [{name: x, v: 1}, {name: y, v: 2}]"), read(t, "a: [{name: y, v: 2}, {name: x, v: 1}]")
	if !differ(a, b, "a") || differ(a, b, "a[x].v") {
		t.Error("the order counts once, the elements are the same")
	}
	if left, right := show(a.at("a"), b.at("a")); text(left) != "[x, y]" || text(right) != "[y, x]" {
		t.Errorf("%s and %s", text(left), text(right))
	}
}

// What a patch may hold is compared, and not shown when it may be a secret.
func TestNothingSecretIsShown(t *testing.T) {
	for _, doc := range []string{
		"machine: {token: canary}",
		"machine: {registries: {config: {r: {auth: {username: u, password: canary}}}}}",
		"machine: {registries: {config: {r: {auth: {auth: canary}}}}}",
		"machine: {registries: {mirrors: {r: {endpoints: ['https://u:canary@r']}}}}",
		"machine: {registries: {mirrors: {r: {endpoints: ['https://r?key=canary']}}}}",
		"machine: {env: {HTTP_PROXY: canary}}",
		"machine: {files: [{path: /etc/x, content: canary}]}",
		"{kind: WireguardConfig, name: wg0, peers: [{endpoint: e, presharedKey: canary}]}",
		"{kind: WireguardConfig, name: wg0, peers: [{presharedKey: canary}]}",
		"cluster: {inlineManifests: [{name: x, contents: canary}]}",
		"cluster: {extraManifestHeaders: {Authorization: canary}}",
		"cluster: {aescbcEncryptionSecret: canary}",
		"machine: {sysctls: {x: canary" + strings.Repeat("x", longest) + "}}",
		"machine: {sysctls: {x: \"a\\ncanary\"}}",
		"{kind: ExtensionServiceConfig, name: x, environment: [KEY=canary]}",
		"{kind: EnvironmentConfig, variables: {KEY: canary}}",
		"{kind: WireguardConfig, name: wg0, privateKey: canary}",
	} {
		seen := 0
		for path, v := range read(t, doc) {
			if strings.Contains(v.text+strings.Join(v.items, " "), "canary") {
				seen++
				if left, _ := show(&v, nil); strings.Contains(*left, "canary") {
					t.Errorf("%s is shown: %s", path, *left)
				}
				if left, _ := show(&v, &value{list: true}); strings.Contains(*left, "canary") {
					t.Errorf("%s is shown beside an empty list: %s", path, *left)
				}
			}
		}
		if seen == 0 {
			t.Errorf("no field of %s holds what must not be shown", doc)
		}
	}
	open, err := readConfig([]byte("machine: {ca: {key: canary, crt: c}}"), []byte("machine: {ca: {key: '-', crt: c}}"))
	if err != nil {
		t.Fatal(err)
	}
	if v := open["machine.ca.key"]; !v.secret || open["machine.ca.crt"].secret {
		t.Errorf("what Talos redacts is a secret, and nothing else: %+v", open)
	}
}

func TestLists(t *testing.T) {
	list := func(items ...string) *value { return &value{list: true, items: items} }
	for _, tc := range []struct {
		a, b *value
		want [2]string
	}{
		{list("x", "y"), list("y", "z"), [2]string{"x", "z"}},
		{list("x", "x"), list("x"), [2]string{"x", "(nothing)"}},
		{list("x"), nil, [2]string{"[x]", "(nothing)"}},
		{list(), list("x"), [2]string{"(nothing)", "x"}},
		{list("x"), &value{text: "x"}, [2]string{"[x]", "x"}},
		{&value{}, &value{text: "x"}, [2]string{`""`, "x"}},
	} {
		if left, right := show(tc.a, tc.b); text(left) != tc.want[0] || text(right) != tc.want[1] {
			t.Errorf("%v, %v are shown as %s and %s, want %v", tc.a, tc.b, text(left), text(right), tc.want)
		}
	}
}
