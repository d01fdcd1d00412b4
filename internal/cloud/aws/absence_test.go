package aws

import (
	"net/url"
	"testing"
	"time"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/fault"
)

// What the cloud does not show is not gone: not by its id, not by its tags, and
// not because an older attempt's instance is terminated.
func TestNotFoundIsNotAbsence(t *testing.T) {
	s := sample()
	const window = time.Minute
	byID := refusal(400, codeNoInstance, "The instance ID 'i-1' does not exist")
	// Reads by id are refused where lists are only empty.
	missing := func(f url.Values) (int, string) {
		if f.Get("InstanceId.1") != "" {
			return byID(f)
		}
		return nothing(f)
	}
	former := instanceXML(s, "i-0", "terminated")
	for _, tc := range []struct {
		name string
		ref  cloud.MachineRef
		look func(url.Values) (int, string)
		seen time.Duration // how long ago the instance was made that was seen; 0 if none was
		now  fault.Kind    // at the first look
		then fault.Kind    // after the window
	}{
		{"by id, never seen", cloud.MachineRef{ID: "m1", Cloud: "i-1"}, missing, 0, fault.NotYet, fault.NotFound},
		{"by id, seen and young", cloud.MachineRef{ID: "m1", Cloud: "i-1"}, missing, time.Second, fault.NotYet, fault.NotFound},
		{"by id, seen and old", cloud.MachineRef{ID: "m1", Cloud: "i-1"}, missing, time.Hour, fault.NotFound, fault.NotFound},
		{"by tags", cloud.MachineRef{ID: "m1"}, missing, 0, fault.NotYet, fault.NotFound},
		{"by tags, a former attempt is terminated", cloud.MachineRef{ID: "m1"}, described(former), 0, fault.NotYet, fault.NotFound},
		{"by id, terminated", cloud.MachineRef{ID: "m1", Cloud: "i-0"}, described(former), 0, fault.NotFound, fault.NotFound},
		{"by id, running", cloud.MachineRef{ID: "m1", Cloud: "i-1"}, described(instanceXML(s, "i-1", "running")), 0, "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.ref.Owner = s.Owner
			w := &wire{answer: map[string]func(url.Values) (int, string){"DescribeInstances": tc.look, "TerminateInstances": answer(`<TerminateInstancesResponse/>`)}}
			p := open(t, w)
			clock := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
			p.seen = newSightings(window, func() time.Time { return clock })
			p.Absence = p.seen
			if tc.seen > 0 {
				p.seen.Saw("i-1", clock.Add(-tc.seen))
			}
			check := func(want fault.Kind) {
				t.Helper()
				if _, err := p.GetMachine(t.Context(), tc.ref); fault.KindOf(err) != want {
					t.Errorf("GetMachine: %v of kind %q, want %q", err, fault.KindOf(err), want)
				}
				gone, err := p.DeleteMachine(t.Context(), tc.ref)
				if wantGone := want == fault.NotFound; gone != wantGone || err != nil && (wantGone || !fault.Is(err, fault.NotYet)) {
					t.Errorf("DeleteMachine = %t, %v; want %t", gone, err, wantGone)
				}
			}
			check(tc.now)
			clock = clock.Add(window)
			check(tc.then)
		})
	}
}

// The same of resources.
func TestMissingResource(t *testing.T) {
	gone := refusal(400, "InvalidVpcID.NotFound", "The vpc ID 'vpc-1' does not exist")
	w := &wire{answer: map[string]func(url.Values) (int, string){"DescribeVpcs": gone}}
	p := open(t, w)
	clock := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	p.seen = newSightings(time.Minute, func() time.Time { return clock })
	p.Absence = p.seen
	r := cloud.Resource{Kind: kindVPC, Key: "vpc", ID: "vpc-1"}
	if gone, err := p.DeleteResource(t.Context(), r); gone || !fault.Is(err, fault.NotYet) {
		t.Errorf("at once: %t, %v", gone, err)
	}
	if _, err := p.GetResource(t.Context(), r); !fault.Is(err, fault.NotYet) {
		t.Errorf("at once: %v", err)
	}
	clock = clock.Add(time.Minute)
	if gone, err := p.DeleteResource(t.Context(), r); !gone || err != nil {
		t.Errorf("later: %t, %v", gone, err)
	}
}

// Somebody else's resource is not deleted, nor what others stand on.
func TestDeleteResource(t *testing.T) {
	vpc := func(tags string) func(url.Values) (int, string) {
		return answer(`<DescribeVpcsResponse><vpcSet><item><vpcId>vpc-1</vpcId><state>available</state><tagSet>` + tags + `</tagSet></item></vpcSet></DescribeVpcsResponse>`)
	}
	const own = `<item><key>ichor/cluster</key><value>u1</value></item><item><key>ichor/key</key><value>vpc</value></item>`
	r := cloud.Resource{Kind: kindVPC, Key: "vpc", ID: "vpc-1"}
	for _, tc := range []struct {
		name    string
		tags    string
		remove  func(url.Values) (int, string)
		want    fault.Kind
		removes int
	}{
		{"somebody else's", "", nil, fault.Unsafe, 0},
		{"another key", `<item><key>ichor/cluster</key><value>u1</value></item><item><key>ichor/key</key><value>x</value></item>`, nil, fault.Unsafe, 0},
		{"in use", own, refusal(400, "DependencyViolation", "has dependencies"), fault.Conflict, 1},
		{"forbidden", own, refusal(403, "UnauthorizedOperation", "no"), fault.Unauthorized, 1},
		{"no answer", own, func(url.Values) (int, string) { return 0, "" }, fault.NotYet, 1},
		{"confirmed, still shown", own, answer(`<DeleteVpcResponse><return>true</return></DeleteVpcResponse>`), "", 1},
	} {
		w := &wire{answer: map[string]func(url.Values) (int, string){"DescribeVpcs": vpc(tc.tags), "DeleteVpc": tc.remove}}
		p := open(t, w)
		gone, err := p.DeleteResource(t.Context(), r)
		if gone || fault.KindOf(err) != tc.want || w.called("DeleteVpc") != tc.removes {
			t.Errorf("%s: %t, %v of kind %q after %d requests; want %q, %d", tc.name, gone, err, fault.KindOf(err), w.called("DeleteVpc"), tc.want, tc.removes)
		}
	}
	if gone, err := open(t, &wire{}).DeleteResource(t.Context(), cloud.Resource{Kind: kindVPC, ID: "vpc-1", Foreign: true}); gone || !fault.Is(err, fault.Unsafe) {
		t.Errorf("foreign: %t, %v", gone, err)
	}
}
