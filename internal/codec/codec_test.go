package codec_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/ichor-project/ichor/internal/codec"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
)

const canary = "canary-77aa-hunter2"

func key(t testing.TB, fill byte) codec.Key {
	t.Helper()
	k, err := codec.ParseKey(secrets.NewValue([]byte(base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{fill}, 32)) + "\n")))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func dataConverter(t testing.TB, keys ...codec.Key) converter.DataConverter {
	t.Helper()
	dc, err := codec.DataConverter(keys)
	if err != nil {
		t.Fatal(err)
	}
	return dc
}

func encode(t testing.TB, dc converter.DataConverter, v any) *commonpb.Payload {
	t.Helper()
	p, err := dc.ToPayload(v)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestRoundTripAndRotation(t *testing.T) {
	old, next := key(t, 1), key(t, 2)
	before := dataConverter(t)
	a := dataConverter(t, old)
	both := dataConverter(t, next, old)
	rapid.Check(t, func(rt *rapid.T) {
		want := rapid.SliceOf(rapid.String()).Draw(rt, "value")
		for name, p := range map[string]*commonpb.Payload{
			"clear": encode(t, before, want), "old key": encode(t, a, want), "new key": encode(t, both, want),
		} {
			var got []string
			if err := both.FromPayload(p, &got); err != nil || !cmp.Equal(got, want) {
				rt.Errorf("%s: %q, %v; want %q", name, got, err, want)
			}
		}
	})
	if id := string(encode(t, both, "x").Metadata["encryption-key-id"]); id != next.ID() {
		t.Errorf("encrypted with key %s, not the first one", id)
	}
}

func TestNothingIsReadable(t *testing.T) {
	dc := dataConverter(t, key(t, 1))
	text := strings.Repeat(canary, 50)
	p := encode(t, dc, text)
	raw, err := proto.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(raw, []byte(canary)) {
		t.Error("the payload is readable")
	}
	if len(raw) > len(text)/2 {
		t.Errorf("%d bytes for a text of %d that repeats itself: not compressed", len(raw), len(text))
	}
	if bytes.Equal(p.Data, encode(t, dc, text).Data) {
		t.Error("equal values have equal ciphertexts")
	}

	var o client.Options
	if err := codec.ClientOptions(&o, []codec.Key{key(t, 1)}); err != nil {
		t.Fatal(err)
	}
	cause := temporal.NewApplicationErrorWithCause(canary, "Quota", errors.New(canary), canary)
	failure := o.FailureConverter.ErrorToFailure(cause)
	raw, err = proto.Marshal(failure)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(raw, []byte(canary)) {
		t.Error("the message of a failure is readable")
	}
	if !bytes.Contains(raw, []byte("Quota")) {
		t.Error("the type of a failure is not readable")
	}
	if back := o.FailureConverter.FailureToError(failure); !strings.Contains(back.Error(), canary) {
		t.Errorf("decoded message: %v", back)
	}
}

func TestWithoutKeysPayloadsAreAsUsual(t *testing.T) {
	var o client.Options
	if err := codec.ClientOptions(&o, nil); err != nil {
		t.Fatal(err)
	}
	got := encode(t, o.DataConverter, "x")
	want := encode(t, converter.GetDefaultDataConverter(), "x")
	if !proto.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if f := o.FailureConverter.ErrorToFailure(errors.New("plain")); f.GetMessage() != "plain" {
		t.Errorf("message %q", f.GetMessage())
	}
}

func TestUnreadablePayloads(t *testing.T) {
	p := encode(t, dataConverter(t, key(t, 1)), canary)
	damaged := proto.Clone(p).(*commonpb.Payload)
	damaged.Data[len(damaged.Data)-1] ^= 1
	short := proto.Clone(p).(*commonpb.Payload)
	short.Data = short.Data[:5]
	renamed := proto.Clone(p).(*commonpb.Payload)
	renamed.Metadata["encryption-key-id"] = []byte(key(t, 2).ID())
	for _, tc := range []struct {
		name    string
		p       *commonpb.Payload
		keys    []codec.Key
		damaged bool
	}{
		{"no key", p, nil, false},
		{"other key", p, []codec.Key{key(t, 2)}, false},
		{"damaged", damaged, []codec.Key{key(t, 1)}, true},
		{"short", short, []codec.Key{key(t, 1)}, true},
		{"under the name of another key", renamed, []codec.Key{key(t, 1), key(t, 2)}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dc := dataConverter(t, tc.keys...)
			var got string
			err := dc.FromPayload(tc.p, &got)
			var unreadable *codec.UnreadableError
			if !errors.As(err, &unreadable) || unreadable.Damaged != tc.damaged || got != "" {
				t.Fatalf("%q, %v", got, err)
			}

			// In workflow code the task must fail, not the workflow.
			inWorkflow := dc.(workflow.ContextAware).WithWorkflowContext(nil)
			inWorkflow = converter.WithDataConverterSerializationContext(inWorkflow, converter.WorkflowSerializationContext{})
			if !panics(func() { _ = inWorkflow.FromPayload(tc.p, &got) }) ||
				!panics(func() { _ = inWorkflow.FromPayloads(&commonpb.Payloads{Payloads: []*commonpb.Payload{tc.p}}, &got) }) {
				t.Error("a workflow would fail for good")
			}
			outside := inWorkflow.(workflow.ContextAware).WithContext(context.Background())
			if panics(func() { _ = outside.FromPayload(tc.p, &got) }) {
				t.Error("a client would crash")
			}
		})
	}
	// Ordinary decoding errors stay errors: the input is wrong, not the key.
	wrongType := encode(t, dataConverter(t), []int{1})
	inWorkflow := dataConverter(t).(workflow.ContextAware).WithWorkflowContext(nil)
	var got string
	if panics(func() {
		if inWorkflow.FromPayload(wrongType, &got) == nil {
			t.Error("decoded")
		}
	}) {
		t.Error("an ordinary error panics")
	}
}

func panics(f func()) (did bool) {
	defer func() { did = recover() != nil }()
	f()
	return false
}

type resolver map[secrets.Ref]string

func (r resolver) Resolve(_ context.Context, ref secrets.Ref) (secrets.Value, error) {
	v, ok := r[ref]
	if !ok {
		return secrets.Value{}, fault.New(fault.NotFound, "resolve", "absent")
	}
	return secrets.NewValue([]byte(v)), nil
}

func TestLoadKeys(t *testing.T) {
	good := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{1}, 32))
	r := resolver{"env:GOOD": good, "env:SHORT": "aGVsbG8=", "env:TEXT": canary}
	keys, err := codec.LoadKeys(t.Context(), r, []secrets.Ref{"env:GOOD"})
	if err != nil || len(keys) != 1 || keys[0].ID() != key(t, 1).ID() {
		t.Fatalf("%v %v", keys, err)
	}
	for ref, want := range map[secrets.Ref]fault.Kind{"env:SHORT": fault.Invalid, "env:TEXT": fault.Invalid, "env:NONE": fault.NotFound} {
		_, err := codec.LoadKeys(t.Context(), r, []secrets.Ref{"env:GOOD", ref})
		if fault.KindOf(err) != want || strings.Contains(err.Error(), canary) {
			t.Errorf("%s: %v", ref, err)
		}
	}
}
