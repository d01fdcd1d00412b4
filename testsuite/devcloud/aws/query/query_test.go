package query_test

import (
	"context"
	"encoding/xml"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ichor-project/ichor/testsuite/devcloud/aws/query"
)

type filter struct {
	Name  string
	Value []string
}

type request struct {
	ID     string `query:"InstanceId"`
	Filter []filter
	Ebs    struct{ VolumeSize *int32 }
	Dry    *bool `query:"DryRun"`
	Nested *struct{ Name string }
	Many   []string
}

func TestDecode(t *testing.T) {
	size, yes := int32(20), true
	for name, test := range map[string]struct {
		form string
		want request
		code string
	}{
		"nothing": {},
		"all": {
			form: "InstanceId=i-1&Filter.1.Name=a&Filter.1.Value.1=x&Filter.1.Value.2=y&Filter.2.Name=b&Ebs.VolumeSize=20&DryRun=true&Nested.Name=n",
			want: request{
				ID: "i-1", Filter: []filter{{Name: "a", Value: []string{"x", "y"}}, {Name: "b"}}, Dry: &yes,
				Ebs: struct{ VolumeSize *int32 }{&size}, Nested: &struct{ Name string }{"n"},
			},
		},
		"members":             {form: "Many.member.2=b&Many.member.1=a&Many.member.10=c", want: request{Many: []string{"a", "b", "c"}}},
		"an empty list":       {form: "Many="},
		"unknown":             {form: "InstanceId=i-1&Nope=1", code: "UnknownParameter"},
		"unknown in a list":   {form: "Filter.1.Nope=1", code: "UnknownParameter"},
		"number out of range": {form: "Many.0=x", code: "UnknownParameter"},
		"not a number":        {form: "Ebs.VolumeSize=big", code: "InvalidParameterValue"},
		"number too large":    {form: "Ebs.VolumeSize=99999999999", code: "InvalidParameterValue"},
		"not a boolean":       {form: "DryRun=perhaps", code: "InvalidParameterValue"},
	} {
		t.Run(name, func(t *testing.T) {
			form, err := url.ParseQuery(test.form)
			if err != nil {
				t.Fatal(err)
			}
			var got request
			err = query.Decode(form, &got)
			if test.code != "" {
				if !query.IsCode(err, test.code) {
					t.Fatalf("got %v, want %s", err, test.code)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

type thing struct {
	Name  string   `xml:"name"`
	Items []string `xml:"itemSet>item"`
}

func TestServer(t *testing.T) {
	const plain = xml.Header
	actions := map[string]query.Action{
		"Say": query.On(func(_ context.Context, in struct{ Text string }) (thing, error) {
			if in.Text == "no" {
				return thing{}, query.Refuse("Not<Nice", "no & never")
			}
			return thing{Name: in.Text, Items: []string{"a", "b"}}, nil
		}),
	}
	for name, test := range map[string]struct {
		protocol query.Protocol
		form     string
		status   int
		want     string
	}{
		"ec2": {query.EC2, "Action=Say&Version=1&Text=x%3Cy", 200, `<SayResponse xmlns="ns"><requestId>r-1</requestId>` +
			`<name>x&lt;y</name><itemSet><item>a</item><item>b</item></itemSet></SayResponse>`},
		"query": {query.Query, "Action=Say&Version=1&Text=x", 200, `<SayResponse xmlns="ns"><SayResult><name>x</name>` +
			`<itemSet><item>a</item><item>b</item></itemSet></SayResult><ResponseMetadata><RequestId>r-1</RequestId></ResponseMetadata></SayResponse>`},
		"ec2 error": {query.EC2, "Action=Say&Version=1&Text=no", 400, `<Response><Errors><Error><Code>Not&lt;Nice</Code>` +
			`<Message>no &amp; never</Message></Error></Errors><RequestID>r-1</RequestID></Response>`},
		"query error": {query.Query, "Action=Say&Version=1&Text=no", 400, `<ErrorResponse xmlns="ns"><Error><Type>Sender</Type>` +
			`<Code>Not&lt;Nice</Code><Message>no &amp; never</Message></Error><RequestId>r-1</RequestId></ErrorResponse>`},
		"another action": {query.EC2, "Action=Shout&Version=1", 400, `<Response><Errors><Error><Code>InvalidAction</Code>` +
			`<Message>The action Shout is not valid for this web service.</Message></Error></Errors><RequestID>r-1</RequestID></Response>`},
		"another version": {query.EC2, "Action=Say&Version=2", 400, `<Response><Errors><Error><Code>InvalidAction</Code>` +
			`<Message>The action Say is not valid for version 2 of this web service.</Message></Error></Errors><RequestID>r-1</RequestID></Response>`},
	} {
		t.Run(name, func(t *testing.T) {
			s := &query.Server{Protocol: test.protocol, Version: "1", Namespace: "ns", Actions: actions}
			r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(test.form))
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			rw := httptest.NewRecorder()
			rw.Header().Set("X-Request-Id", "r-1")
			s.ServeHTTP(rw, r)
			body, err := io.ReadAll(rw.Result().Body)
			if err != nil {
				t.Fatal(err)
			}
			if rw.Code != test.status {
				t.Errorf("status %d, want %d", rw.Code, test.status)
			}
			if diff := cmp.Diff(test.want, strings.TrimPrefix(string(body), plain)); diff != "" {
				t.Error(diff)
			}
		})
	}
}
