package aws_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"pgregory.net/rapid"

	"github.com/ichor-project/ichor/testsuite/devcloud/aws/account"
	"github.com/ichor-project/ichor/testsuite/devcloud/faults"
)

func TestFaults(t *testing.T) {
	c := start(t)
	ctx := t.Context()
	n := c.network(t)
	for name, test := range map[string]struct {
		fault  faults.Fault
		code   string
		status int
	}{
		"throttled":       {faults.Fault{Effect: faults.JSON429}, "RequestLimitExceeded", 503},
		"throttled, html": {faults.Fault{Effect: faults.HTML429}, "RequestLimitExceeded", 503},
		"unavailable":     {faults.Fault{Effect: faults.Window503}, "Unavailable", 503},
		"quota":           {faults.Fault{Effect: faults.Quota}, "VcpuLimitExceeded", 400},
		"out of stock":    {faults.Fault{Effect: faults.OutOfStock}, "InsufficientInstanceCapacity", 400},
		"no image":        {faults.Fault{Effect: faults.Image404}, "InvalidAMIID.NotFound", 400},
		"any code":        {faults.Fault{Effect: faults.Status, Status: 400, Code: "PendingVerification", Body: "wait"}, "PendingVerification", 400},
		"internal":        {faults.Fault{Effect: faults.Status, Status: 500}, "InternalError", 500},
	} {
		t.Run(name, func(t *testing.T) {
			test.fault.Route, test.fault.Contains = "POST /aws/ec2/RunInstances", "t3.medium"
			must(c.faults.Add(test.fault))(t)
			defer c.faults.Clear()
			must(c.DescribeVpcs(ctx, &ec2.DescribeVpcsInput{}))(t) // another action is not bent
			_, err := c.RunInstances(ctx, c.spec(t, n))
			if got, status := code(err); got != test.code || status != test.status {
				t.Errorf("got %v", err)
			}
		})
	}
	if s := c.account.State(); len(s.Instances) != 0 {
		t.Errorf("%d instances", len(s.Instances))
	}
}

// TestLostAnswer loses the answer to a launch, or gives a wrong one: the token
// finds the instance.
func TestLostAnswer(t *testing.T) {
	for effect, want := range map[string]string{faults.CommitThenDrop: "", faults.CommitThenFail: "InternalError"} {
		t.Run(effect, func(t *testing.T) {
			c := start(t)
			n := c.network(t)
			must(c.faults.Add(faults.Fault{Route: "POST /aws/ec2/RunInstances", Effect: effect}))(t)
			spec := c.spec(t, n, func(in *ec2.RunInstancesInput) { in.ClientToken = p("x") })
			_, err := c.RunInstances(t.Context(), spec)
			if got, status := code(err); err == nil || status != 0 && got != want {
				t.Fatalf("the launch was answered with %v", err)
			}
			made := c.account.Omniscient().Instances()
			if again := *c.run(t, spec).InstanceId; len(made) != 1 || again != made[0].ID {
				t.Errorf("made %d, then %s", len(made), again)
			}
		})
	}
}

func TestBentLaunches(t *testing.T) {
	c := start(t)
	n := c.network(t)
	must(c.faults.Add(faults.Fault{Route: "POST /aws/ec2/RunInstances", Effect: faults.ErrorState}))(t)
	failed := c.reaches(t, *c.run(t, c.spec(t, n)).InstanceId, "terminated")
	if *failed.StateReason.Code != "Server.InternalError" {
		t.Errorf("failed because of %s", *failed.StateReason.Code)
	}
	must(c.faults.Add(faults.Fault{Route: "POST /aws/ec2/RunInstances", Effect: faults.StuckChanging}))(t)
	stuck := *c.run(t, c.spec(t, n)).InstanceId
	c.reaches(t, *c.run(t, c.spec(t, n)).InstanceId, "running")
	if i := must(c.instance(t.Context(), stuck))(t); i.State.Name != "pending" {
		t.Errorf("stuck in %s", i.State.Name)
	}
	must(c.faults.Add(faults.Fault{Route: "POST /aws/ec2/DescribeInstances", Effect: faults.StaleList, Duration: faults.Duration(1e6 * time.Hour)}))(t)
	_, err := c.instance(t.Context(), stuck)
	refused(t, err, "InvalidInstanceID.NotFound")
	must(c.instance(t.Context(), stuck))(t)
	must(c.TerminateInstances(t.Context(), &ec2.TerminateInstancesInput{InstanceIds: []string{stuck}}))(t)
	c.reaches(t, stuck, "terminated")
}

// TestNeverTwice proves that whatever is asked how often, at once or after lost
// answers, one token makes at most one instance.
func TestNeverTwice(t *testing.T) {
	c := start(t)
	n := c.network(t)
	image := c.talos(t, "amd64")
	run := 0
	rapid.Check(t, func(r *rapid.T) {
		run++
		defer c.faults.Clear()
		for range rapid.IntRange(0, 3).Draw(r, "faults") {
			effect := rapid.SampledFrom([]string{faults.CommitThenDrop, faults.DropBeforeCommit, faults.JSON429, faults.DelayThenCommit}).Draw(r, "effect")
			if _, err := c.faults.Add(faults.Fault{
				Route: "POST /aws/ec2/RunInstances", Effect: effect, Nth: rapid.IntRange(1, 4).Draw(r, "nth"), Delay: faults.Duration(time.Second),
			}); err != nil {
				r.Fatal(err)
			}
		}
		type ask struct{ token, kind int }
		asks := rapid.SliceOfN(rapid.Custom(func(r *rapid.T) ask {
			return ask{rapid.IntRange(0, 2).Draw(r, "token"), rapid.IntRange(0, 1).Draw(r, "type")}
		}), 1, 8).Draw(r, "asks")
		var wg sync.WaitGroup
		var mu sync.Mutex
		answers := map[string]map[string]bool{}
		for _, a := range asks {
			wg.Go(func() {
				token := fmt.Sprintf("%d-%d", run, a.token)
				out, err := c.RunInstances(t.Context(), &ec2.RunInstancesInput{
					MinCount: p(int32(1)), MaxCount: p(int32(1)), ImageId: &image, SubnetId: &n.subnets[0], ClientToken: &token,
					InstanceType: []types.InstanceType{"t3.medium", "t3.large"}[a.kind],
				})
				if err != nil {
					return
				}
				mu.Lock()
				defer mu.Unlock()
				if answers[token] == nil {
					answers[token] = map[string]bool{}
				}
				answers[token][*out.Instances[0].InstanceId] = true
			})
		}
		wg.Wait()
		made := map[string]int{}
		for _, i := range c.account.Omniscient().Instances() {
			made[i.ClientName]++
		}
		for token, n := range made {
			if n != 1 {
				r.Fatalf("token %s made %d instances", token, n)
			}
		}
		for token, ids := range answers {
			if len(ids) != 1 || made[token] != 1 {
				r.Fatalf("token %s was answered with %v", token, ids)
			}
		}
		for _, i := range c.account.Omniscient().Instances() {
			if err := c.account.Vanish(i.ID); err != nil {
				r.Fatal(err)
			}
		}
	})
}

// TestSpotCountsApart counts the vCPUs of a Spot instance apart.
func TestSpotCountsApart(t *testing.T) {
	c := startWith(t, account.Settings{PageLimit: 1000, VCPUs: map[string]int{"standard": 2}, SpotVCPUs: map[string]int{"standard": 2}})
	n := c.network(t)
	c.run(t, c.spec(t, n))
	c.run(t, c.spec(t, n, func(in *ec2.RunInstancesInput) {
		in.InstanceMarketOptions = &types.InstanceMarketOptionsRequest{MarketType: "spot"}
	}))
	_, err := c.RunInstances(t.Context(), c.spec(t, n))
	refused(t, err, "VcpuLimitExceeded")
}
