package aws

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/ichor-project/ichor/testsuite/devcloud/aws/access"
	"github.com/ichor-project/ichor/testsuite/devcloud/aws/account"
	"github.com/ichor-project/ichor/testsuite/devcloud/aws/iam"
	"github.com/ichor-project/ichor/testsuite/devcloud/aws/query"
)

// Principal is somebody who may do what a policy says, and nothing else.
type Principal struct {
	Name        string
	Key, Secret string
	Policy      []byte
}

// Variables are the SDK's for a principal's credentials.
func (p *Principal) Variables() map[string]string {
	return map[string]string{"AWS_ACCESS_KEY_ID": p.Key, "AWS_SECRET_ACCESS_KEY": p.Secret}
}

// Worker and Nodes are the principals that the documented policies are for.
func Worker(policy []byte) Principal {
	return Principal{"worker", "AKIADEVCLOUDWORKER00", "devcloud/opens/what/the/policy/of/workers/says", policy}
}

// Nodes is what the instance profile of machines gives.
func Nodes(policy []byte) Principal {
	return Principal{"nodes", "AKIADEVCLOUDNODES000", "devcloud/opens/what/the/policy/of/nodes/says", policy}
}

// Admit lets a principal in. From then on its policy decides what it may do.
func (c *Cloud) Admit(p Principal) error {
	policy, err := iam.Parse(p.Policy)
	if err != nil {
		return err
	}
	c.gate.principals.Limit(p.Key, "arn:aws:iam::"+account.AccountID+":user/"+p.Name, policy)
	c.gate.mu.Lock()
	defer c.gate.mu.Unlock()
	if c.gate.keys == nil {
		c.gate.keys = map[string]string{}
	}
	c.gate.keys[p.Key] = p.Secret
	return nil
}

// secret returns the secret and the session token of a key, be it the account's or
// a principal's. Keys in the account's settings replace both.
func (c *Cloud) secret(key string) (secret, session string, ok bool) {
	c.gate.mu.Lock()
	own, admitted := c.gate.keys[key]
	c.gate.mu.Unlock()
	if admitted && len(c.account.Settings().Keys) == 0 {
		return own, "", true
	}
	return c.account.Secret(key)
}

// Usage tells what became of the principals' policies.
func (c *Cloud) Usage() []iam.Usage { return c.gate.principals.Usage() }

// gate asks for rights.
type gate struct {
	rights     access.Rights
	principals iam.Principals

	mu    sync.Mutex
	keys  map[string]string // secrets of principals
	roles map[string]bool   // of services, that the account has
}

func (g *gate) linked(service string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.roles[service]
}

// check returns an *iam.Denial for whoever has not all the rights that a request
// needs. For who has, roles of services are made.
func (g *gate) check(key string, needs []iam.Need) error {
	if err := g.principals.Check(key, needs); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, n := range needs {
		for _, service := range n.Context["iam:AWSServiceName"] {
			if g.roles == nil {
				g.roles = map[string]bool{}
			}
			g.roles[service] = true
		}
	}
	return nil
}

// unauthorized is the refusal of a request that the caller may not make; nil if
// it may.
func (c *Cloud) unauthorized(s Service, key string, form url.Values) *query.Error {
	refused := &query.Error{Code: "AccessDenied", Message: "You are not authorized to perform this operation.", Status: http.StatusForbidden}
	if s.Server.Protocol == query.EC2 {
		refused.Code = "UnauthorizedOperation"
	}
	action := form.Get("Action")
	if c.account.Denies(action) {
		return refused
	}
	if s.Rights == nil || s.Server.Actions[action] == nil {
		return nil
	}
	var denial *iam.Denial
	if !errors.As(c.gate.check(key, s.Rights(action, form)), &denial) {
		return nil
	}
	c.denied(denial)
	refused.Message += " " + denial.Error()
	if denial.Context["iam:AWSServiceName"] != nil && s.Server.Protocol == query.EC2 {
		refused.Code = "AuthFailure.ServiceLinkedRoleCreationNotPermitted"
	}
	return refused
}

func (c *Cloud) denied(d *iam.Denial) {
	if c.log != nil {
		c.log.Warn("refused by policy", "principal", d.Name, "action", d.Action, "resource", d.Resource, "context", d.Context)
	}
}

// blocksRefuse and storageRefuses are unauthorized for the other services.
func (c *Cloud) blocksRefuse(key string, r *http.Request, path string, body []byte) bool {
	return c.refuses(key, c.gate.rights.Blocks(r.Method, path, body))
}

// Who may not list a bucket is not told that an object is not there.
func (c *Cloud) storageRefuses(key string, r *http.Request, path string) bool {
	needs := access.Storage(r.Method, path, r.URL.Query())
	if c.refuses(key, needs) {
		return true
	}
	if needs[0].Action != "s3:GetObject" {
		return false
	}
	bucket, object, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	_, err := c.storage.Body(r.Context(), bucket, object)
	return err != nil && c.refuses(key, access.Storage(http.MethodHead, bucket, nil))
}

func (c *Cloud) refuses(key string, needs []iam.Need) bool {
	var denial *iam.Denial
	if !errors.As(c.gate.check(key, needs), &denial) {
		return false
	}
	c.denied(denial)
	return true
}
