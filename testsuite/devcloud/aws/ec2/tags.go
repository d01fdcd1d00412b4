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
	id: func(t account.Tagged) string { return t.Resource + "/" + t.Key },
	fields: func(t account.Tagged) fields {
		return fields{"resource-id": one(t.Resource), "resource-type": one(t.Kind), "key": one(t.Key), "value": one(t.Value)}
	},
}

func (f *face) tags(to map[string]query.Action) {
	type described struct {
		Items     []tagged `xml:"tagSet>item"`
		NextToken string   `xml:"nextToken,omitempty"`
	}
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
	on(f, to, "DescribeTags", func(v account.View, in struct {
		paging
		Filter []filter
	},
	) (described, error) {
		chosen, err := choose(f, v.AllTags(), byTag, nil, in.Filter)
		if err != nil {
			return described{}, err
		}
		chosen, next, err := page(f, chosen, in.paging, 5, byTag.id)
		return described{each(chosen, func(t account.Tagged) tagged { return tagged{t.Resource, t.Kind, t.Key, t.Value} }), next}, err
	})
}
