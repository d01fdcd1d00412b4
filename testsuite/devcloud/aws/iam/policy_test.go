package iam

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func document(statements string) []byte {
	return []byte(`{"Version": "2012-10-17", "Statement": [` + statements + `]}`)
}

func parse(t *testing.T, statements string) Policy {
	t.Helper()
	p, err := Parse(document(statements))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

const (
	own  = "arn:aws:ec2:eu-central-1:123456789012:instance/i-1"
	ours = `{"Sid": "Own", "Effect": "Allow", "Action": ["ec2:Terminate*", "ec2:StopInstances"], "Resource": "arn:aws:ec2:*:*:instance/*",
		"Condition": {"Null": {"aws:ResourceTag/ichor/cluster": "false"}}}`
	tagged = `{"Sid": "Tag", "Effect": "Allow", "Action": "ec2:CreateTags", "Resource": "*",
		"Condition": {"StringEquals": {"ec2:CreateAction": ["RunInstances", "CreateVpc"]}, "StringLike": {"aws:RequestTag/Name": "demo-?"}}}`
	never = `{"Sid": "Never", "Effect": "Deny", "Action": "*", "Resource": "arn:aws:ec2:*:*:instance/i-holy"}`
)

func TestDecision(t *testing.T) {
	has := map[string][]string{"aws:ResourceTag/ichor/cluster": {"u1"}}
	launch := map[string][]string{"ec2:CreateAction": {"RunInstances"}, "aws:RequestTag/Name": {"demo-1"}}
	for name, test := range map[string]struct {
		policy string
		need   Need
		want   bool
	}{
		"by pattern":               {ours, Need{Action: "ec2:TerminateInstances", Resource: own, Context: has}, true},
		"case of actions":          {ours, Need{Action: "ec2:stopinstances", Resource: own, Context: has}, true},
		"another action":           {ours, Need{Action: "ec2:StartInstances", Resource: own, Context: has}, false},
		"another service":          {ours, Need{Action: "rds:StopInstances", Resource: own, Context: has}, false},
		"another kind":             {ours, Need{Action: "ec2:StopInstances", Resource: "arn:aws:ec2:eu-central-1:123456789012:volume/v", Context: has}, false},
		"a wildcard and a colon":   {ours, Need{Action: "ec2:StopInstances", Resource: "arn:aws:s3:x:ec2:y:instance/i", Context: has}, false},
		"everything":               {ours, Need{Action: "ec2:StopInstances", Resource: "*", Context: has}, false},
		"not tagged":               {ours, Need{Action: "ec2:StopInstances", Resource: own}, false},
		"not there":                {ours, Need{Action: "ec2:StopInstances", Resource: own, Missing: true}, true},
		"not there, and forbidden": {ours, Need{Action: "ec2:StartInstances", Resource: own, Missing: true}, false},
		"all conditions":           {tagged, Need{Action: "ec2:CreateTags", Resource: own, Context: launch}, true},
		"one condition":            {tagged, Need{Action: "ec2:CreateTags", Resource: own, Context: map[string][]string{"ec2:CreateAction": {"RunInstances"}}}, false},
		"another value":            {tagged, Need{Action: "ec2:CreateTags", Resource: own, Context: map[string][]string{"ec2:CreateAction": {"RunInstances"}, "aws:RequestTag/Name": {"demo-10"}}}, false},
		"denied":                   {ours + "," + never, Need{Action: "ec2:StopInstances", Resource: "arn:aws:ec2:a:b:instance/i-holy", Context: has}, false},
		"not denied":               {never + "," + ours, Need{Action: "ec2:StopInstances", Resource: own, Context: has}, true},
	} {
		t.Run(name, func(t *testing.T) {
			var p Principals
			p.Limit("key", "somebody", parse(t, test.policy))
			err := p.Check("key", []Need{test.need})
			var d *Denial
			if errors.As(err, &d) == test.want {
				t.Fatalf("%v", err)
			}
			if d != nil && !strings.Contains(err.Error(), "somebody is not authorized to perform: "+test.need.Action+" on resource: "+test.need.Resource) {
				t.Error(err)
			}
			if err := p.Check("other", []Need{test.need}); err != nil {
				t.Errorf("who is not limited: %v", err)
			}
		})
	}
}

func TestUsage(t *testing.T) {
	var p Principals
	p.Limit("k", "worker", parse(t, ours+","+tagged+","+never))
	p.Limit("n", "nodes", parse(t, tagged))
	stop := Need{Action: "ec2:StopInstances", Resource: own, Context: map[string][]string{"aws:ResourceTag/ichor/cluster": {"u1"}}}
	create := Need{Action: "ec2:CreateTags", Resource: own, Context: map[string][]string{"ec2:CreateAction": {"RunInstances"}, "aws:RequestTag/Name": {"demo-1"}}}
	for _, needs := range [][]Need{{stop}, {stop, create}} {
		if err := p.Check("k", needs); err != nil {
			t.Error(err)
		}
	}
	// What else a refused request would have used does not count.
	if err := p.Check("n", []Need{create, stop}); err == nil {
		t.Error("allowed")
	}
	want := []Usage{
		{
			Principal: "nodes", Calls: map[string]int{}, Refused: map[string]int{"ec2:StopInstances on " + own: 1},
			Unused: []string{
				"Tag: StringEquals ec2:CreateAction CreateVpc", "Tag: StringEquals ec2:CreateAction RunInstances",
				"Tag: StringLike aws:RequestTag/Name demo-?", "Tag: action ec2:CreateTags", "Tag: resource *",
			},
		},
		{
			Principal: "worker", Calls: map[string]int{"ec2:StopInstances": 2, "ec2:CreateTags": 1}, Refused: map[string]int{},
			Unused: []string{"Own: action ec2:Terminate*", "Tag: StringEquals ec2:CreateAction CreateVpc"},
		},
	}
	if diff := cmp.Diff(want, p.Usage()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestDocumentsThatAreNotUnderstood(t *testing.T) {
	for name, doc := range map[string]string{
		"no JSON":            `{`,
		"no version":         `{"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}`,
		"no statement":       string(document("")),
		"an effect":          string(document(`{"Effect": "Perhaps", "Action": "*", "Resource": "*"}`)),
		"no resource":        string(document(`{"Effect": "Allow", "Action": "*"}`)),
		"an unknown element": string(document(`{"Effect": "Allow", "NotAction": "*", "Resource": "*"}`)),
		"an operator":        string(document(`{"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}}`)),
		"names":              string(document(ours + "," + ours)),
	} {
		if _, err := Parse([]byte(doc)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	p, err := Parse(document(`{"Effect": "Allow", "Action": "a:b", "Resource": "*"}`))
	if err != nil || p.Statement[0].Sid != "statement 1" {
		t.Errorf("%+v, %v", p, err)
	}
}
