package server_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/ichor-project/ichor/internal/cluster"
)

// seconds is google.protobuf.Duration, nanoseconds Kubernetes' own.
func seconds(s int64) msg             { return msg{}.num(1, s) }
func nanoseconds(d time.Duration) msg { return msg{}.num(1, int64(d)) }

func TestOptions(t *testing.T) {
	f := serve(t, newFake(), nil)
	_, err := f.call(t, "NodeGroupGetOptions", msg{}.text(1, "demo/worker"))
	wantCode(t, "a group that overrides nothing", err, codes.Unimplemented)

	legacy := msg{}.double(1, 0.5).double(2, 0.5).sub(3, nanoseconds(time.Hour)).sub(4, nanoseconds(time.Hour)).sub(5, nanoseconds(time.Hour))
	current := msg{}.double(1, 0.5).double(2, 0.5).sub(8, seconds(3600)).sub(9, seconds(3600)).sub(10, seconds(3600))
	both := append(append(msg{}, legacy...), current...)
	newer := append(append(msg{}, current...), msg{}.sub(11, seconds(900)).num(12, 1)...)
	for name, defaults := range map[string]msg{"nothing": nil, "legacy": legacy, "current": current, "both": both, "newer": newer} {
		out, err := f.call(t, "NodeGroupGetOptions", msg{}.text(1, "demo/tuned").sub(2, defaults))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		o := decode(t, decode(t, out).bytes(t, 1))
		want := []protowire.Number{1, 2, 3, 4, 5, 7, 8, 9, 10}
		if name == "newer" {
			want = append(want, 11, 12)
		}
		if diff := cmp.Diff(want, o.numbers()); diff != "" {
			t.Errorf("%s: fields (-want +got):\n%s", name, diff)
			continue
		}
		if o.double(1) != 0.25 || o.double(2) != 0.75 || o.num(7) != 1 {
			t.Errorf("%s: thresholds %v, %v, daemon sets %d", name, o.double(1), o.double(2), o.num(7))
		}
		for field, want := range map[protowire.Number]time.Duration{3: time.Minute, 4: 90 * time.Second, 5: 2 * time.Minute} {
			if got := time.Duration(decode(t, o.bytes(t, field)).num(1)); got != want {
				t.Errorf("%s: field %d is %s, want %s", name, field, got, want)
			}
			if got := time.Duration(decode(t, o.bytes(t, field+5)).num(1)) * time.Second; got != want {
				t.Errorf("%s: field %d is %s, want %s", name, field+5, got, want)
			}
		}
		if name == "newer" && (decode(t, o.bytes(t, 11)).num(1) != 900 || o.num(12) != 1) {
			t.Errorf("what a newer autoscaler sent came back changed: %v", o)
		}
	}
	if n := strings.Count(f.log.String(), "has a side effect with this autoscaler"); n != 1 {
		t.Errorf("the side effect on autoscalers from 1.35 on was told %d times, not once:\n%s", n, f.log)
	}
}

// A zero would mean "at once": whatever a group leaves out comes from the
// request, and from the autoscaler's documented defaults if it is not there.
func TestOptionsAreNeverZero(t *testing.T) {
	source := newFake()
	g := tuned()
	g.Facts.Autoscaling = &cluster.Autoscaling{}
	source.groups[0] = g
	f := serve(t, source, nil)
	for name, tc := range map[string]struct {
		defaults  msg
		threshold float64
		spans     [3]time.Duration
	}{
		"nothing": {nil, 0.5, [3]time.Duration{10 * time.Minute, 20 * time.Minute, 15 * time.Minute}},
		"legacy": {
			msg{}.double(1, 0.3).double(2, 0.3).sub(3, nanoseconds(time.Second)).sub(4, nanoseconds(2*time.Second)).sub(5, nanoseconds(3*time.Second)),
			0.3,
			[3]time.Duration{time.Second, 2 * time.Second, 3 * time.Second},
		},
		"current": {
			msg{}.double(1, 0.3).double(2, 0.3).sub(8, seconds(1)).sub(9, seconds(2)).sub(10, seconds(3)),
			0.3,
			[3]time.Duration{time.Second, 2 * time.Second, 3 * time.Second},
		},
		"nonsense": {
			msg{}.double(1, -4).double(2, 7).sub(8, seconds(-1)).sub(9, seconds(1<<62)).sub(10, seconds(0)).sub(5, nanoseconds(-3)),
			0.5,
			[3]time.Duration{10 * time.Minute, 20 * time.Minute, 15 * time.Minute},
		},
	} {
		out, err := f.call(t, "NodeGroupGetOptions", msg{}.text(1, "demo/tuned").sub(2, tc.defaults))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		o := decode(t, decode(t, out).bytes(t, 1))
		if o.double(1) != tc.threshold || o.double(2) != tc.threshold {
			t.Errorf("%s: thresholds %v, %v", name, o.double(1), o.double(2))
		}
		for i, want := range tc.spans {
			legacy := time.Duration(decode(t, o.bytes(t, protowire.Number(3+i))).num(1))
			current := time.Duration(decode(t, o.bytes(t, protowire.Number(8+i))).num(1)) * time.Second
			if legacy != want || current != want {
				t.Errorf("%s: span %d is %s and %s, want %s", name, i, legacy, current, want)
			}
		}
	}
}
