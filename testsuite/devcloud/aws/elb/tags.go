package elb

import (
	"maps"
	"slices"
	"strings"

	"github.com/ichor-project/ichor/testsuite/devcloud/aws/account"
	"github.com/ichor-project/ichor/testsuite/devcloud/aws/query"
	"github.com/ichor-project/ichor/testsuite/devcloud/faults"
)

// maxDescribed is how many resources DescribeTags takes.
const maxDescribed = 20

// checkTags words what is wrong with tags as ELB does.
func checkTags(tags []account.Tag) error {
	err := account.CheckTags(tags)
	switch {
	case query.IsCode(err, "TagLimitExceeded"):
		return query.Refuse("TooManyTags", "The maximum number of tags has been reached")
	case err != nil && strings.Contains(err.Error(), "Duplicate"):
		return query.Refuse("DuplicateTagKeys", "A tag key was specified more than once")
	case err != nil:
		return invalid("%v", err)
	}
	return nil
}

func tagMap(tags []account.Tag) map[string]string {
	out := map[string]string{}
	for _, t := range tags {
		out[t.Key] = t.Value
	}
	return out
}

// tagged returns the tags of a resource, for reading and changing.
func (s *Service) tagged(arn string) (map[string]string, error) {
	switch {
	case strings.Contains(arn, ":targetgroup/"):
		g, err := s.group(arn)
		if err != nil {
			return nil, err
		}
		return g.tags, nil
	case strings.Contains(arn, ":listener/"):
		for _, l := range s.listeners {
			if l.arn == arn {
				return l.tags, nil
			}
		}
		return nil, query.Refuse("ListenerNotFound", "One or more listeners not found: '%s'", arn)
	case strings.Contains(arn, ":loadbalancer/"):
		b, err := s.balancer(arn)
		if err != nil {
			return nil, err
		}
		return b.tags, nil
	}
	return nil, invalid("'%s' is not a valid ARN of a load balancer, target group or listener", arn)
}

// Tags returns the tags of a resource, and whether it is there.
func (s *Service) Tags(arn string) (map[string]string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	tags, err := s.tagged(arn)
	return maps.Clone(tags), err == nil
}

// allTagged returns the tags of several resources, or why not.
func (s *Service) allTagged(arns []string) ([]map[string]string, error) {
	if len(arns) == 0 {
		return nil, invalid("At least one resource ARN must be specified")
	}
	var out []map[string]string
	for _, arn := range arns {
		tags, err := s.tagged(arn)
		if err != nil {
			return nil, err
		}
		out = append(out, tags)
	}
	return out, nil
}

type addTags struct {
	ResourceArns []string
	Tags         []account.Tag
}

func (s *Service) addTags(_ faults.Bend, in addTags) (none, error) {
	all, err := s.allTagged(in.ResourceArns)
	if err != nil {
		return none{}, err
	}
	if err := checkTags(in.Tags); err != nil {
		return none{}, err
	}
	for _, have := range all {
		next := maps.Clone(have)
		maps.Copy(next, tagMap(in.Tags))
		if len(next) > 50 {
			return none{}, query.Refuse("TooManyTags", "The maximum number of tags has been reached")
		}
	}
	for _, have := range all {
		maps.Copy(have, tagMap(in.Tags))
	}
	return none{}, nil
}

type removeTags struct{ ResourceArns, TagKeys []string }

func (s *Service) removeTags(_ faults.Bend, in removeTags) (none, error) {
	all, err := s.allTagged(in.ResourceArns)
	for _, have := range all {
		maps.DeleteFunc(have, func(k, _ string) bool { return slices.Contains(in.TagKeys, k) })
	}
	return none{}, err
}

type describeTags struct{ ResourceArns []string }

type tagDescription struct {
	ResourceArn string      `xml:"ResourceArn"`
	Tags        []attribute `xml:"Tags>member"`
}

type tagDescriptions struct {
	TagDescriptions []tagDescription `xml:"TagDescriptions>member"`
}

func (s *Service) describeTags(_ faults.Bend, in describeTags) (tagDescriptions, error) {
	var out tagDescriptions
	if len(in.ResourceArns) > maxDescribed {
		return out, invalid("At most %d resource ARNs can be specified", maxDescribed)
	}
	all, err := s.allTagged(in.ResourceArns)
	for i, tags := range all {
		out.TagDescriptions = append(out.TagDescriptions, tagDescription{in.ResourceArns[i], toXML(tags).Attributes})
	}
	return out, err
}
