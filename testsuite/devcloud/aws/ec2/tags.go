package ec2

import (
	"github.com/ichor-project/ichor/testsuite/devcloud/aws/account"
	"github.com/ichor-project/ichor/testsuite/devcloud/aws/query"
)

type tagged struct {
	Resource string `xml:"resourceId"`
	Kind     string `xml:"resourceType"`
	Key      string `xml:"key"`
	Value    string `xml:"value"`
}

var byTag = lookup[account.Tagged]{
	set: "tagSet",
	id:  func(t account.Tagged) string { return t.Resource + "/" + t.Key },
	fields: func(t account.Tagged) fields {
		return fields{"resource-id": one(t.Resource), "resource-type": one(t.Kind), "key": one(t.Key), "value": one(t.Value)}
	},
}

func (f *face) tags(to map[string]query.Action) {
	on(f, to, "CreateTags", func(v account.View, in struct {
		ResourceID []string `query:"ResourceId"`
		Tag        []account.Tag
	},
	) (done, error) {
		return ok(v.CreateTags(in.ResourceID, in.Tag))
	})
	on(f, to, "DeleteTags", func(v account.View, in struct {
		ResourceID []string `query:"ResourceId"`
		Tag        []account.OldTag
	},
	) (done, error) {
		return ok(v.DeleteTags(in.ResourceID, in.Tag))
	})
	describe(f, to, "DescribeTags", byTag, account.View.AllTags, func(t account.Tagged) tagged { return tagged{t.Resource, t.Kind, t.Key, t.Value} })
}
