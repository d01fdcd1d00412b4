package aws_test

import (
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cloud/aws"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	standin "github.com/ichor-project/ichor/testsuite/devcloud/aws"
	"github.com/ichor-project/ichor/testsuite/devcloud/aws/account"
	"github.com/ichor-project/ichor/testsuite/devcloud/aws/iam"
)

// recorder notes the actions that providers send.
type recorder struct {
	mu      sync.Mutex
	actions map[string]bool
}

func (r *recorder) observe(route, _ string, _ int, _ time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.actions == nil {
		r.actions = map[string]bool{}
	}
	r.actions[route] = true
}

func (r *recorder) sent() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Sorted(maps.Keys(r.actions))
}

// policyFile is the documented policy.
const policyFile = "../../../docs/reference/aws-iam-policy.json"

// limit lets the providers do what the documented policy allows, and nothing else:
// a test whose provider tries more fails.
func (c *testCloud) limit(t *testing.T) {
	t.Helper()
	body, err := os.ReadFile(policyFile)
	if err != nil {
		t.Fatal(err)
	}
	who := standin.Principal{Name: "worker", Key: account.DefaultKey, Secret: account.DefaultSecret, Policy: body}
	if err := c.front.Admit(who); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if refused := c.used().Refused; len(refused) > 0 {
			t.Errorf("the policy in %s does not allow %v", policyFile, refused)
		}
	})
}

// used tells what has been used of the policy.
func (c *testCloud) used() iam.Usage { return c.front.Usage()[0] }

// The policy names every action, and demands something of whoever writes.
func TestPolicyIsNarrow(t *testing.T) {
	body, err := os.ReadFile(policyFile)
	if err != nil {
		t.Fatal(err)
	}
	policy, err := iam.Parse(body)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range policy.Statement {
		if s.Effect != "Allow" {
			t.Errorf("statement %s: %s", s.Sid, s.Effect)
		}
		for _, a := range s.Action {
			if strings.Contains(a, "*") {
				t.Errorf("statement %s allows %s", s.Sid, a)
			}
			_, verb, _ := strings.Cut(a, ":")
			if !strings.HasPrefix(verb, "Describe") && slices.Contains(s.Resource, "*") {
				t.Errorf("statement %s: %s writes to anything", s.Sid, a)
			}
		}
	}
}

// A tour of all that the provider does uses each part of the policy: its actions,
// its resources and the values in its conditions.
func TestPolicy(t *testing.T) {
	c := startCloud(t)
	var seen recorder
	c.observe = seen.observe
	p := c.open(t)
	if id, err := p.Account(t.Context()); err != nil || id != account.AccountID {
		t.Errorf("account %q, %v", id, err)
	}
	if _, err := p.Flavors(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := p.EnsureImage(t.Context(), cloud.EnsureImageRequest{Spec: c.Published(), User: tourist}); err != nil {
		t.Error(err)
	}
	c.tourImages(t, p)
	spec := c.Infrastructure(tourist)
	c.build(t, spec)
	// A range that is not allowed any more is closed.
	spec.AllowedCIDRs = []string{"192.0.2.0/24"}
	have := c.build(t, spec)
	step, err := p.PlacementStep(tourist, zone, 0)
	if err != nil {
		t.Fatal(err)
	}
	group := c.ensure(t, cloud.EnsureResourceRequest{Owner: tourist, Step: step})
	m := c.Machine(tourist, "m1")
	m.Spot = true // which needs more than others
	m.PlacementGroup, m.Subnets, m.Params = group.ID, nil, []cluster.Tag{{Key: "instanceProfile", Value: "ichor-nodes"}}
	for _, r := range have {
		if r.Kind == cloud.KindSubnet && r.Zone == zone {
			m.Subnets = []string{r.ID}
		}
		m.Params = append(m.Params, r.Machine...)
	}
	var made cloud.Machine
	eventually(t, "machine", func() (bool, error) {
		look, err := p.EnsureMachine(t.Context(), cloud.EnsureMachineRequest{Spec: m, UserData: c.UserData(), Create: true})
		if look.Machine != nil {
			made = *look.Machine
		}
		return look.Machine != nil, err
	})
	for _, members := range [][]cloud.Member{{{MachineID: "m1", Name: made.Name, Address: made.Private}}, nil} {
		eventually(t, "members", func() (bool, error) {
			_, err := p.SyncMembers(t.Context(), cloud.SyncMembersRequest{Owner: tourist, Have: have, Members: members})
			return err == nil, err
		})
	}
	c.leaveVolume(t, have)
	if i, err := c.account.Instance(made.Ref.Cloud); err != nil || i.Metadata.Tokens != "required" || i.Metadata.HopLimit != 2 {
		t.Errorf("metadata %+v, %v", i.Metadata, err)
	}
	eventually(t, "machine is gone", func() (bool, error) { return p.DeleteMachine(t.Context(), made.Ref) })
	var list []cloud.Resource
	eventually(t, "all are listed", func() (bool, error) {
		var err error
		list, err = p.ListResources(t.Context(), tourist)
		return len(list) == len(have)+2, err // the placement group and the volume
	})
	// The route table goes while subnets still use it.
	slices.SortStableFunc(list, func(a, b cloud.Resource) int {
		late := func(r cloud.Resource) int {
			switch r.Kind {
			case "subnet":
				return 1
			case "internet-gateway", "vpc":
				return 2
			}
			return 0
		}
		return late(a) - late(b)
	})
	for _, r := range list {
		eventually(t, "deletion of "+r.Kind, func() (bool, error) { return p.DeleteResource(t.Context(), r) })
	}
	if books := c.Books(tourist.Cluster.UID); len(books) != 0 {
		t.Errorf("left: %v", books)
	}
	used := c.used()
	for _, part := range used.Unused {
		t.Errorf("%s: nothing needs %s", policyFile, part)
	}
	for _, action := range seen.sent() {
		// Whoever has credentials may ask whose they are.
		if used.Calls[action] == 0 && action != "sts:GetCallerIdentity" {
			t.Errorf("nobody looked whether %s is allowed", action)
		}
	}
}

// tourImages imports an image for two clusters and releases it for both.
func (c *testCloud) tourImages(t *testing.T, p *aws.Provider) {
	t.Helper()
	other := cloud.Owner{Cluster: cluster.Ref{Name: "other", UID: "u-other"}}
	spec := c.Image("tour")
	look, err := p.EnsureImage(t.Context(), cloud.EnsureImageRequest{Spec: spec, User: tourist, Create: true})
	if err != nil || look.Image == nil {
		t.Fatalf("EnsureImage: %+v, %v", look, err)
	}
	im := *look.Image
	eventually(t, "the image is ready", func() (bool, error) {
		now, err := p.GetImage(t.Context(), im.ID)
		if err == nil {
			im = now
		}
		return now.State == cloud.ImageReady, err
	})
	for _, made := range c.account.Omniscient().Images() {
		if made.ID != im.ID {
			continue
		}
		if made.Guest.TalosVersion != version || made.BootMode != "uefi" || made.IMDS != "v2.0" || made.RootDevice != "/dev/xvda" {
			t.Errorf("image %+v", made)
		}
	}
	if look, err := p.EnsureImage(t.Context(), cloud.EnsureImageRequest{Spec: spec, User: other}); err != nil || look.Image == nil || look.Image.ID != im.ID {
		t.Errorf("for another cluster: %+v, %v", look, err)
	}
	for _, user := range []cloud.Owner{other, tourist} {
		eventually(t, "release", func() (bool, error) { return p.ReleaseImage(t.Context(), spec, user) })
	}
	if n := len(c.account.Omniscient().Snapshots()); n != 0 {
		t.Errorf("%d snapshots are left", n)
	}
}

var tourist = cloud.Owner{Cluster: cluster.Ref{Name: "tour", UID: "u-tour"}}

func eventually(t *testing.T, what string, f func() (bool, error)) {
	t.Helper()
	for {
		done, err := f()
		if err != nil && !fault.KindOf(err).Retryable() {
			t.Fatalf("%s: %v", what, err)
		}
		if done && err == nil {
			return
		}
		select {
		case <-t.Context().Done():
			t.Fatalf("%s: last error %v", what, err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// ensure makes one resource and waits until it is ready.
func (c *testCloud) ensure(t *testing.T, req cloud.EnsureResourceRequest) cloud.Resource {
	t.Helper()
	p := c.open(t)
	// What was made a moment ago may not be visible yet, so the create is sent only
	// once for each key.
	var made cloud.Resource
	req.Create = !c.made[req.Step.Key]
	eventually(t, req.Step.Title, func() (bool, error) {
		look, err := p.EnsureResource(t.Context(), req)
		if look.Resource != nil {
			made = *look.Resource
		}
		// A create is Ambiguous when it was done, and only its settings were not.
		if req.Create = req.Create && err != nil && !fault.Is(err, fault.Ambiguous); fault.Is(err, fault.Ambiguous) {
			err = nil
		}
		return look.Resource != nil, err
	})
	c.made[req.Step.Key] = true
	return made
}

// build ensures all steps of a plan.
func (c *testCloud) build(t *testing.T, spec cloud.InfrastructureSpec) []cloud.Resource {
	t.Helper()
	p := c.open(t)
	steps, err := p.PlanInfrastructure(spec)
	if err != nil {
		t.Fatal(err)
	}
	var have []cloud.Resource
	for _, s := range steps {
		r := c.ensure(t, cloud.EnsureResourceRequest{Owner: spec.Owner, Step: s, Have: have})
		eventually(t, s.Title+" is ready", func() (bool, error) {
			now, err := p.GetResource(t.Context(), r)
			if err == nil {
				r = now
			}
			return now.Ready, err
		})
		have = append(have, r)
	}
	return have
}

// leaveVolume leaves a volume that has outlived its machine.
func (c *testCloud) leaveVolume(t *testing.T, have []cloud.Resource) {
	t.Helper()
	i := slices.IndexFunc(have, func(r cloud.Resource) bool { return r.Kind == cloud.KindSubnet })
	keep := false
	v := c.account.Omniscient()
	made, err := v.Launch(account.LaunchSpec{
		Image: c.images["x86_64"], Type: "t3.medium", Subnet: have[i].ID, UserData: []byte("x"),
		Devices: []account.DeviceSpec{{Device: "/dev/xvda", SizeGB: 20, Delete: &keep}},
		Tags:    map[string][]account.Tag{"volume": {{Key: cluster.TagCluster, Value: tourist.Cluster.UID}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Terminate([]string{made.ID}); err != nil {
		t.Fatal(err)
	}
}
