package devcloud

import (
	"fmt"
	"maps"

	"github.com/ichor-project/ichor/testsuite/devcloud/aws"
	"github.com/ichor-project/ichor/testsuite/devcloud/aws/account"
)

// AWSPolicies are documents that say what may be done in the account at AWS.
// Without one, everything may be.
type AWSPolicies struct {
	// Worker is for whoever makes clusters, Nodes for what runs on machines.
	Worker, Nodes []byte
}

// AWSEnvironment returns the variables that make an SDK talk to this cloud: its
// endpoints, its region, and credentials for whoever makes clusters.
func (d *Devcloud) AWSEnvironment() map[string]string { return d.awsEnvironment(d.worker) }

// AWSOwner is AWSEnvironment with credentials that no policy limits, for judges.
func (d *Devcloud) AWSOwner() map[string]string { return d.awsEnvironment(nil) }

// AWSKeys are the secrets of everybody who is let in at AWS, by access key, for who
// sets them anew.
func (d *Devcloud) AWSKeys() map[string]string {
	out := map[string]string{account.DefaultKey: account.DefaultSecret}
	for _, p := range []*aws.Principal{d.worker, d.nodes} {
		if p != nil {
			out[p.Key] = p.Secret
		}
	}
	return out
}

func (d *Devcloud) awsEnvironment(p *aws.Principal) map[string]string {
	if p == nil {
		p = &aws.Principal{Key: account.DefaultKey, Secret: account.DefaultSecret}
	}
	out := d.aws.Endpoints(d.url)
	maps.Copy(out, p.Variables())
	out["AWS_REGION"] = account.Region
	return out
}

// admit lets those in for whom there are policies.
func (d *Devcloud) admit(p AWSPolicies) error {
	for _, x := range []struct {
		policy []byte
		who    func([]byte) aws.Principal
		keep   **aws.Principal
	}{{p.Worker, aws.Worker, &d.worker}, {p.Nodes, aws.Nodes, &d.nodes}} {
		if x.policy == nil {
			continue
		}
		who := x.who(x.policy)
		if err := d.aws.Admit(who); err != nil {
			return fmt.Errorf("devcloud: %s: %w", who.Name, err)
		}
		*x.keep = &who
	}
	return nil
}
