package run

import (
	"encoding/json"
	"errors"
	"io"

	v1 "k8s.io/api/core/v1"
	"k8s.io/autoscaler/cluster-autoscaler/cloudprovider"
	"k8s.io/autoscaler/cluster-autoscaler/config"
)

// Group is one node group as the autoscaler understands the provider's answers.
type Group struct {
	ID        string                              `json:"id"`
	Min       int                                 `json:"min"`
	Max       int                                 `json:"max"`
	Target    int                                 `json:"target"`
	Instances []cloudprovider.Instance            `json:"instances"`
	Template  *v1.Node                            `json:"template"`
	Options   *config.NodeGroupAutoscalingOptions `json:"options"` // nil where the flags' hold
}

// describe writes all groups. What is not implemented is null.
func describe(w io.Writer, provider cloudprovider.CloudProvider, options config.AutoscalingOptions) error {
	if err := provider.Refresh(); err != nil {
		return err
	}
	groups := []Group{}
	for _, g := range provider.NodeGroups() {
		d := Group{ID: g.Id(), Min: g.MinSize(), Max: g.MaxSize()}
		var err, failed error
		d.Target, err = g.TargetSize()
		failed = errors.Join(failed, err)
		d.Instances, err = g.Nodes()
		failed = errors.Join(failed, err)
		switch info, err := g.TemplateNodeInfo(); {
		case err == nil && info != nil:
			d.Template = info.Node()
		case err != nil && !errors.Is(err, cloudprovider.ErrNotImplemented):
			failed = errors.Join(failed, err)
		}
		switch o, err := g.GetOptions(options.NodeGroupDefaults); {
		case err == nil:
			d.Options = o
		case !errors.Is(err, cloudprovider.ErrNotImplemented):
			failed = errors.Join(failed, err)
		}
		if failed != nil {
			return failed
		}
		groups = append(groups, d)
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(groups)
}
