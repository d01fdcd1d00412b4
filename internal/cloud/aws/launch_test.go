package aws

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
)

// The four outcomes of sending a create with a token again, and of a reader that
// lags behind it.
func TestTokenOutcomes(t *testing.T) {
	s := sample()
	s.Attempt = 3
	former := s
	former.Attempt = 2
	mismatch := refusal(400, codeMismatch, "other parameters")
	then := func(answers ...func(url.Values) (int, string)) func(url.Values) (int, string) {
		n := 0
		return func(form url.Values) (int, string) {
			n++
			return answers[min(n, len(answers))-1](form)
		}
	}
	// empty shows things after so many empty looks.
	empty := func(looks int, items ...string) func(url.Values) (int, string) {
		if looks == 0 {
			return described(items...)
		}
		return then(nothing, described(items...))
	}
	for _, tc := range []struct {
		name    string
		look    func(url.Values) (int, string)
		run     func(url.Values) (int, string)
		runs    int
		machine string
		created bool
		kind    fault.Kind
		says    string
		later   bool // asked again after the absence window
	}{
		{name: "new", look: nothing, run: launched(s, "i-1", "pending"), runs: 1, machine: "i-1", created: true},
		{name: "replay", look: nothing, run: launched(s, "i-1", "running"), runs: 1, machine: "i-1"},
		{name: "mismatch, not visible yet", look: nothing, run: mismatch, runs: 1, kind: fault.Ambiguous, says: "attempt 3 was heard before"},
		{name: "mismatch, visible", look: empty(1, instanceXML(s, "i-1", "running")), run: mismatch, runs: 1, machine: "i-1"},
		{name: "mismatch, being terminated", look: empty(1, instanceXML(s, "i-1", "shutting-down")), run: mismatch, runs: 1, kind: fault.Ambiguous, says: "i-1 is being terminated"},
		{name: "mismatch, terminated", look: empty(1, instanceXML(s, "i-1", "terminated")), run: mismatch, runs: 1, kind: fault.NotFound, says: "attempt 3"},
		{name: "mismatch, a former attempt is terminated", look: empty(0, instanceXML(former, "i-0", "terminated")), run: mismatch, runs: 1, kind: fault.Ambiguous, says: "not visible"},
		{name: "mismatch, and reads are throttled", look: then(nothing, refusal(503, "RequestLimitExceeded", "slow")), run: mismatch, runs: 1, kind: fault.Ambiguous, says: "slow"},
		{name: "mismatch, nothing for long", look: nothing, run: mismatch, runs: 2, kind: fault.NotFound, says: "attempt 3", later: true},
		{name: "terminated", look: nothing, run: refusal(400, codeTerminated, "gone"), runs: 1, kind: fault.NotFound, says: "attempt 3"},
		{name: "terminated, answered as before 2025", look: nothing, run: launched(s, "i-1", "terminated"), runs: 1, kind: fault.NotFound, says: "attempt 3"},
		{name: "being terminated", look: described(instanceXML(s, "i-1", "shutting-down")), run: launched(s, "i-1", "shutting-down"), runs: 1, kind: fault.Conflict, says: "attempt 3"},
		{name: "visible", look: described(instanceXML(s, "i-1", "running")), machine: "i-1"},
		{name: "lag of what it refers to", look: nothing, run: refusal(400, "InvalidGroup.NotFound", "sg-1"), runs: 1, kind: fault.NotYet},
		{name: "answer lost", look: nothing, run: func(url.Values) (int, string) { return 0, "" }, runs: 1, kind: fault.Ambiguous},
		{name: "answer torn", look: nothing, run: answer("<RunInst"), runs: 1, kind: fault.Ambiguous},
		{name: "another zone", look: nothing, run: launched(func() cloud.MachineSpec { o := s; o.Zone = "eu-central-1b"; return o }(), "i-1", "pending"), runs: 1, kind: fault.Internal},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := &wire{answer: map[string]func(url.Values) (int, string){
				"DescribeInstances": tc.look, "RunInstances": tc.run, "TerminateInstances": answer(`<TerminateInstancesResponse/>`),
			}}
			p, clock := open(t, w), time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
			p.seen = newSightings(time.Minute, func() time.Time { return clock })
			look, err := ensure(t, p, s)
			if tc.later {
				if !fault.Is(err, fault.Ambiguous) {
					t.Errorf("at first: %v of kind %q", err, fault.KindOf(err))
				}
				clock = clock.Add(time.Minute)
				look, err = ensure(t, p, s)
			}
			if fault.KindOf(err) != tc.kind || err != nil && !strings.Contains(err.Error(), tc.says) {
				t.Errorf("error %v of kind %q, want %q with %q", err, fault.KindOf(err), tc.kind, tc.says)
			}
			got := ""
			if look.Machine != nil {
				got = look.Machine.Ref.Cloud
			}
			if got != tc.machine || look.Created != tc.created {
				t.Errorf("machine %q, created %t; want %q, %t", got, look.Created, tc.machine, tc.created)
			}
			if n := w.called("RunInstances"); n != tc.runs {
				t.Errorf("%d creates, want %d", n, tc.runs)
			}
		})
	}
}

func TestLaunchRequest(t *testing.T) {
	s := sample()
	w := &wire{answer: map[string]func(url.Values) (int, string){"DescribeInstances": nothing, "RunInstances": launched(s, "i-1", "pending")}}
	look, err := ensure(t, open(t, w), s)
	if err != nil || look.Machine.ProviderID != "aws:///eu-central-1a/i-1" {
		t.Fatalf("%+v, %v", look, err)
	}
	form := w.form("RunInstances")
	token := form.Get("ClientToken")
	tags := url.Values{}
	for k, v := range form {
		if strings.HasPrefix(k, "TagSpecification.") {
			tags[k] = v
			delete(form, k)
		}
	}
	want := url.Values{}
	for k, v := range map[string]string{
		"Action": "RunInstances", "Version": "2016-11-15", "MinCount": "1", "MaxCount": "1", "ClientToken": token,
		"ImageId": "ami-1", "InstanceType": "m7g.large", "UserData": "Y29uZmln",
		"MetadataOptions.HttpEndpoint": "enabled", "MetadataOptions.HttpTokens": "required",
		"MetadataOptions.HttpPutResponseHopLimit": "2", "MetadataOptions.InstanceMetadataTags": "disabled",
		"Placement.AvailabilityZone": "eu-central-1a", "Placement.GroupName": "demo-workers-0",
		"SubnetId": "subnet-1", "SecurityGroupId.1": "sg-1", "IamInstanceProfile.Name": "nodes",
		"BlockDeviceMapping.1.DeviceName": "/dev/xvda", "BlockDeviceMapping.1.Ebs.VolumeSize": "20",
		"BlockDeviceMapping.1.Ebs.VolumeType": "gp3", "BlockDeviceMapping.1.Ebs.DeleteOnTermination": "true",
	} {
		want.Set(k, v)
	}
	if diff := cmp.Diff(want, form); diff != "" {
		t.Errorf("request (-want +got):\n%s", diff)
	}
	for n, sort := range []string{"instance", "volume", "network-interface"} {
		at := fmt.Sprintf("TagSpecification.%d.", n+1)
		if tags.Get(at+"ResourceType") != sort {
			t.Errorf("tags %d go onto %q", n, tags.Get(at+"ResourceType"))
		}
		got := map[string]string{}
		for i := 1; tags.Has(fmt.Sprintf("%sTag.%d.Key", at, i)); i++ {
			got[tags.Get(fmt.Sprintf("%sTag.%d.Key", at, i))] = tags.Get(fmt.Sprintf("%sTag.%d.Value", at, i))
		}
		if diff := cmp.Diff(map[string]string{
			"Name": "demo-workers-m1", "kubernetes.io/cluster/demo": "owned", "team": "storage",
			cluster.TagCluster: "u1", cluster.TagClusterName: "demo", cluster.TagGroup: "workers", cluster.TagMachine: "m1",
			cluster.TagRole: "worker", cloud.TagRequest: fingerprint(s),
		}, got); diff != "" {
			t.Errorf("tags of %s (-want +got):\n%s", sort, diff)
		}
	}

	spot := s
	spot.Spot = true
	in := launchRequest(spot, []byte("config"))
	if m := in.InstanceMarketOptions; m == nil || m.MarketType != "spot" || m.SpotOptions.SpotInstanceType != "one-time" ||
		m.SpotOptions.InstanceInterruptionBehavior != "terminate" || m.SpotOptions.MaxPrice != nil {
		t.Errorf("market %+v", m)
	}
	control := s
	control.Role = cluster.RoleControlPlane
	in = launchRequest(control, []byte("config"))
	if p := in.IamInstanceProfile; p == nil || p.Arn == nil || *p.Arn != "arn:aws:iam::1:instance-profile/cp" {
		t.Errorf("profile of a control plane: %+v", p)
	}
}

// The token is pinned: another one for the same machine and attempt would make a
// second machine of a create that a former release began.
func TestClientToken(t *testing.T) {
	s := sample()
	first := clientToken(s)
	const pinned = "6e17f2c7d71c8b6c0f6643296768685aaa4f7ab82690f83ee1854f31f77e21b3"
	if first != pinned {
		t.Errorf("token %s, want %s", first, pinned)
	}
	seen := map[string]string{first: "as is"}
	for name, edit := range map[string]func(*cloud.MachineSpec){
		"id": func(s *cloud.MachineSpec) { s.ID = "m2" }, "uid": func(s *cloud.MachineSpec) { s.Owner.Cluster.UID = "u2" },
		"attempt": func(s *cloud.MachineSpec) { s.Attempt = 1 },
	} {
		other := s
		edit(&other)
		x := clientToken(other)
		if was, ok := seen[x]; ok {
			t.Errorf("%s: same token as %s", name, was)
		}
		seen[x] = name
	}
	// Whatever else may drift between a create and its repetition.
	drifted := cloud.MachineSpec{ID: s.ID, Owner: cloud.Owner{Cluster: s.Owner.Cluster}, UserDataSHA256: "other"}
	if clientToken(drifted) != first {
		t.Error("the token depends on more than the machine and its attempt")
	}
}

func TestRefusedBeforeSending(t *testing.T) {
	p := open(t, &wire{})
	for name, edit := range map[string]func(*cloud.MachineSpec){
		"T2": func(s *cloud.MachineSpec) { s.Flavor = "t2.micro" }, "tag of the cloud": func(s *cloud.MachineSpec) { s.Tags = []tag{{Key: "aws:x"}} },
		"tag of a cluster":   func(s *cloud.MachineSpec) { s.Tags = []tag{{Key: "kubernetes.io/cluster/other"}} },
		"name":               func(s *cloud.MachineSpec) { s.Tags = []tag{{Key: "Name"}} },
		"spot control plane": func(s *cloud.MachineSpec) { s.Role, s.Spot = cluster.RoleControlPlane, true },
		"network":            func(s *cloud.MachineSpec) { s.Networks = []string{"x"} },
	} {
		s := sample()
		edit(&s)
		if _, err := ensure(t, p, s); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A create that was held up for too long is not sent: whoever took over may have
// sent it already.
func TestTooLateToSend(t *testing.T) {
	w := &wire{answer: map[string]func(url.Values) (int, string){"DescribeInstances": nothing}}
	p := open(t, w, func(o *Options) { o.Waits.PostWindow = time.Nanosecond })
	if _, err := ensure(t, p, sample()); !fault.Is(err, fault.Unavailable) {
		t.Errorf("got %v", err)
	}
}
