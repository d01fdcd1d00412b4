package account

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/ichor-project/ichor/testsuite/devcloud/aws/query"
)

// SecurityGroup is a packet filter of interfaces. All its egress is open.
type SecurityGroup struct {
	Record
	Name, Description, VPC string
	Ingress                []Rule
	// Egress is the rule that every group begins with; it never changes.
	Egress Rule
}

func newGroup(name, description, vpc string) *SecurityGroup {
	g := &SecurityGroup{Record: newRecord("sg"), Name: name, Description: description, VPC: vpc}
	g.Egress = Rule{ID: NewID("sgr"), Protocol: "-1", From: -1, To: -1, CIDR: netip.MustParsePrefix("0.0.0.0/0")}
	if g.isDefault() {
		g.Ingress = []Rule{{ID: NewID("sgr"), Protocol: "-1", From: -1, To: -1, Group: g.ID}}
	}
	return g
}

func (g *SecurityGroup) isDefault() bool { return g.Name == "default" }

// Rule lets packets in from one CIDR block or from the members of one group.
type Rule struct {
	ID string
	// Protocol is "tcp", "udp", "icmp", a number, or "-1" for all.
	Protocol    string
	From, To    int
	CIDR        netip.Prefix
	Group       string
	Description string
}

// same says whether two rules let in the same packets.
func (r Rule) same(o Rule) bool {
	return r.Protocol == o.Protocol && r.From == o.From && r.To == o.To && r.CIDR == o.CIDR && r.Group == o.Group
}

// CreateSecurityGroup makes a group; names are unique within a VPC.
func (v View) CreateSecurityGroup(name, description, vpc string, tags []Tag) (SecurityGroup, error) {
	switch {
	case name == "":
		return SecurityGroup{}, query.Refuse("MissingParameter", "The request must contain the parameter groupName")
	case description == "":
		return SecurityGroup{}, query.Refuse("MissingParameter", "The request must contain the parameter GroupDescription")
	case len(name) > 255 || len(description) > 255 || strings.HasPrefix(name, "sg-") || !ascii(name+description):
		return SecurityGroup{}, query.Refuse("InvalidParameterValue", "Value (%s) for parameter GroupName is invalid. "+
			"Names and descriptions have up to 255 characters; names do not begin with sg-.", name)
	case name == "default":
		return SecurityGroup{}, query.Refuse("InvalidParameterValue", "Cannot use reserved security group name: %s", name)
	case vpc == "":
		return SecurityGroup{}, query.Refuse("VPCIdNotSpecified", "No default VPC for this user")
	}
	v.a.mu.Lock()
	defer v.a.mu.Unlock()
	if _, err := v.vpc(vpc); err != nil {
		return SecurityGroup{}, err
	}
	// Uniqueness has no lag.
	if slices.ContainsFunc(v.a.groups.all(), func(g *SecurityGroup) bool { return g.VPC == vpc && g.Name == name }) {
		return SecurityGroup{}, query.Refuse("InvalidGroup.Duplicate", "The security group '%s' already exists for VPC '%s'", name, vpc)
	}
	g := newGroup(name, description, vpc)
	v.a.groups.add(g)
	v.a.setTags(g.ID, tags)
	v.a.note(v.Action, g.ID)
	return *g, nil
}

// SecurityGroups returns the groups.
func (v View) SecurityGroups() []SecurityGroup {
	return list(v, func(a *Account) *table[*SecurityGroup] { return &a.groups })
}

func (v View) group(id string) (*SecurityGroup, error) {
	return find(v, &v.a.groups, "InvalidGroup.NotFound", "security group", id)
}

func (v View) checkRule(g *SecurityGroup, r Rule) error {
	switch {
	case r.Group != "" == r.CIDR.IsValid():
		return query.Refuse("InvalidPermission.Malformed", "A permission names one source: a CIDR block or a group")
	case r.Protocol == "tcp" || r.Protocol == "udp":
		if r.From < 0 || r.To > 65535 || r.From > r.To {
			return query.Refuse("InvalidPermission.Malformed", "Invalid TCP/UDP port range (%d:%d)", r.From, r.To)
		}
	}
	if r.Group != "" {
		if other, err := v.group(r.Group); err != nil || other.VPC != g.VPC {
			return query.Refuse("InvalidGroup.NotFound", "The security group '%s' does not exist", r.Group)
		}
	}
	return nil
}

// AuthorizeIngress adds rules, all or none of them.
func (v View) AuthorizeIngress(id string, rules []Rule, tags []Tag) ([]Rule, error) {
	v.a.mu.Lock()
	defer v.a.mu.Unlock()
	g, err := v.group(id)
	if err != nil {
		return nil, err
	}
	if len(rules) == 0 {
		return nil, query.Refuse("MissingParameter", "Either 'ipPermissions' or 'securityGroupRules' should be provided.")
	}
	all := slices.Clone(g.Ingress)
	for n, r := range rules {
		if err := v.checkRule(g, r); err != nil {
			return nil, err
		}
		if slices.ContainsFunc(all, r.same) {
			return nil, query.Refuse("InvalidPermission.Duplicate", "the specified rule \"%s\" already exists", r)
		}
		rules[n].ID = NewID("sgr")
		all = append(all, rules[n])
	}
	if n := v.a.settings.RulesPerGroup; n > 0 && len(all) > n {
		return nil, query.Refuse("RulesPerSecurityGroupLimitExceeded", "The maximum number of rules per security group has been reached.")
	}
	g.Ingress = all
	for _, r := range rules {
		v.a.setTags(r.ID, tags)
	}
	v.a.note(v.Action, id)
	return rules, nil
}

func (r Rule) String() string {
	source := r.Group
	if r.CIDR.IsValid() {
		source = r.CIDR.String()
	}
	return "peer: " + source + ", " + strings.ToUpper(r.Protocol) + ", from port: " + itoa(r.From) + ", to port: " + itoa(r.To) + ", ALLOW"
}

// RevokeIngress removes rules, by what they say or by their ids, all or none.
func (v View) RevokeIngress(id string, rules []Rule, ids []string) error {
	v.a.mu.Lock()
	defer v.a.mu.Unlock()
	g, err := v.group(id)
	if err != nil {
		return err
	}
	all := slices.Clone(g.Ingress)
	drop := func(match func(Rule) bool, what string) error {
		n := slices.IndexFunc(all, match)
		if n < 0 {
			return query.Refuse("InvalidPermission.NotFound", "The specified rule does not exist in this security group: %s", what)
		}
		delete(v.a.tags, all[n].ID)
		all = slices.Delete(all, n, n+1)
		return nil
	}
	for _, r := range rules {
		if err := drop(r.same, r.String()); err != nil {
			return err
		}
	}
	for _, ruleID := range ids {
		if err := drop(func(r Rule) bool { return r.ID == ruleID }, ruleID); err != nil {
			return err
		}
	}
	g.Ingress = all
	v.a.note(v.Action, id)
	return nil
}

// DeleteSecurityGroup removes a group that no interface and no rule names.
func (v View) DeleteSecurityGroup(id string) error {
	v.a.mu.Lock()
	defer v.a.mu.Unlock()
	g, err := v.group(id)
	if err != nil {
		return err
	}
	if g.isDefault() {
		return query.Refuse("CannotDelete", "the specified group: \"%s\" name: \"default\" cannot be deleted by a user", id)
	}
	for _, i := range v.a.interfaces.all() {
		if slices.Contains(i.Groups, id) {
			return dependency("resource %s has a dependent object", id)
		}
	}
	for _, other := range v.a.groups.all() {
		if other.ID != id && slices.ContainsFunc(other.Ingress, func(r Rule) bool { return r.Group == id }) {
			return dependency("resource %s has a dependent object", id)
		}
	}
	for _, r := range g.Ingress {
		delete(v.a.tags, r.ID)
	}
	remove(v.a, &v.a.groups, id)
	v.a.note(v.Action, id)
	return nil
}
