package chaos

import (
	"context"
	"encoding/xml"
	"net/url"
	"strconv"
	"testing"

	"github.com/ichor-project/ichor/testsuite/chaos/rig"
	"github.com/ichor-project/ichor/testsuite/devcloud/faults"
)

// Where the requests of the services of AWS go; ebs begins to write a snapshot.
const (
	ec2 = "POST /aws/ec2/"
	elb = "POST /aws/elasticloadbalancing/"
	ebs = "POST /aws/ebs/snapshots"
)

// awsWeather is what is daily business there: throttling, and answers of 5xx to
// what was done and to what was not. To list what a cluster owns takes some twenty
// requests, all of which must succeed, so each one fails less often than elsewhere.
func awsWeather(seed uint64) faults.Chaos {
	c := faults.DefaultChaos(seed)
	c.Rates = map[string]float64{
		faults.CommitThenDrop: 0.02, faults.CommitThenFail: 0.02, faults.DropBeforeCommit: 0.015, faults.DelayThenCommit: 0.01,
		faults.JSON429: 0.02, faults.Window503: 0.01, faults.BadDelete: 0.03, faults.StaleList: 0.03, faults.TagPatch500: 0.02,
	}
	return c
}

// awsClimate gives one zone no capacity for workers or for control planes, in two
// of three seeds, and every other seed a lag of ten times the usual.
func awsClimate(ctx context.Context, r *rig.Rig, seed uint64) error {
	lacks := map[string]int{}
	switch seed % 3 {
	case 1:
		lacks["m6i.xlarge@eu-central-1a"] = 0
	case 2:
		lacks["m6i.large@eu-central-1b"] = 0
	}
	if err := r.SetAWS(ctx, "capacity", lacks); err != nil || seed%2 == 1 {
		return err
	}
	return r.SetAWS(ctx, "visibility", map[string]string{"*": "10s", "DescribeInstances": "20s"})
}

// makeVPC makes one as somebody with the account's credentials would.
func makeVPC(t *testing.T, r *rig.Rig, tags map[string]string) (id string) {
	t.Helper()
	form := url.Values{"CidrBlock": {"10.9.0.0/16"}, "TagSpecification.1.ResourceType": {"vpc"}}
	n := 0
	for k, v := range tags {
		n++
		at := "TagSpecification.1.Tag." + strconv.Itoa(n)
		form.Set(at+".Key", k)
		form.Set(at+".Value", v)
	}
	raw, err := r.EC2(t.Context(), "CreateVpc", form)
	if err != nil {
		t.Fatal(err)
	}
	var made struct {
		ID string `xml:"vpc>vpcId"`
	}
	if err := xml.Unmarshal(raw, &made); err != nil || made.ID == "" {
		t.Fatalf("%v: %s", err, raw)
	}
	return made.ID
}
