package registry

import (
	"context"
	"testing"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
)

type values map[secrets.Ref]string

func (v values) Resolve(_ context.Context, ref secrets.Ref) (secrets.Value, error) {
	text, ok := v[ref]
	if !ok {
		return secrets.Value{}, fault.New(fault.NotFound, "resolve", "nothing at %s", ref)
	}
	return secrets.NewValue([]byte(text)), nil
}

func TestAccounts(t *testing.T) {
	const keys = `{"accessKeyId":"AKIAEXAMPLE","secretAccessKey":"secret"}`
	t.Setenv("AWS_CONFIG_FILE", "/dev/null")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
	r := New(Options{Secrets: values{"env:A": "token-a", "env:SAME": "token-a", "env:B": "token-b", "env:KEYS": keys, "env:BAD": "not json"}})
	type opened struct {
		p       cloud.Provider
		account string
	}
	open := func(provider, zone, ref string) opened {
		t.Helper()
		p, account, err := r.Open(t.Context(), cluster.Cloud{Provider: provider, Zone: zone, Credentials: ref})
		if err != nil {
			t.Fatalf("%s in %s by %s: %v", provider, zone, ref, err)
		}
		return opened{p, account}
	}
	for _, tc := range []struct {
		name string
		a, b opened
		same bool
	}{
		{"two references to one token", open("cloudscale", "lpg1", "env:A"), open("cloudscale", "rma1", "env:SAME"), true},
		{"two tokens", open("cloudscale", "lpg1", "env:A"), open("cloudscale", "lpg1", "env:B"), false},
		{"two zones of a region", open("aws", "eu-central-1a", "env:KEYS"), open("aws", "eu-central-1b", "env:KEYS"), true},
		{"two regions", open("aws", "eu-central-1a", "env:KEYS"), open("aws", "eu-west-1a", "env:KEYS"), false},
		{"keys and surroundings", open("aws", "eu-central-1a", "env:KEYS"), open("aws", "eu-central-1a", "chain:"), false},
		{"the surroundings twice", open("aws", "eu-central-1a", "chain:"), open("aws", "eu-central-1c", "chain:"), true},
	} {
		if got := tc.a == tc.b; got != tc.same {
			t.Errorf("%s: one account %t, want %t", tc.name, got, tc.same)
		}
		if (tc.a.account == tc.b.account) != tc.same {
			t.Errorf("%s: accounts %s and %s", tc.name, tc.a.account, tc.b.account)
		}
	}
	if got := open("aws", "eu-central-1a", "chain:").p.Capabilities().Idempotency; got != cloud.NativeToken {
		t.Errorf("what was opened is not AWS: %s", got)
	}
	for name, tc := range map[string]struct {
		provider, zone, ref string
		kind                fault.Kind
	}{
		"an unknown cloud":  {"nimbus", "a", "env:A", fault.Invalid},
		"no such secret":    {"cloudscale", "lpg1", "env:NONE", fault.Unauthorized},
		"no zone of AWS":    {"aws", "lpg1", "env:KEYS", fault.Invalid},
		"keys of no form":   {"aws", "eu-central-1a", "env:BAD", fault.Unauthorized},
		"no such profile":   {"aws", "eu-central-1a", "chain:nobody", fault.Unauthorized},
		"a chain elsewhere": {"cloudscale", "lpg1", "chain:", fault.Unauthorized},
	} {
		if _, _, err := r.Open(t.Context(), cluster.Cloud{Provider: tc.provider, Zone: tc.zone, Credentials: tc.ref}); !fault.Is(err, tc.kind) {
			t.Errorf("%s: %v (%s)", name, err, fault.KindOf(err))
		}
	}
}
