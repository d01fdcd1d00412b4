package standalone

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/google/uuid"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/serviceerror"

	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/workflows"
)

// conform tells a running entity to be what the file says, unless it is certain
// to be that already. serviceerror.NotFound means that it has ended meanwhile.
func (o StartOptions) conform(ctx context.Context, c Temporal, id string, run *latestRun, want workflows.GroupInput, log *slog.Logger) error {
	e, err := o.read(ctx, c, id, run, want.Cluster.Name)
	if err != nil {
		return err
	}
	if err := e.refuse(id, want); err != nil {
		return err
	}
	log = log.With("run", run.id)
	changed := differences(e.now, want)
	if len(changed) == 0 && !e.told {
		log.InfoContext(ctx, "the group's entity runs already")
		return nil
	}
	// Not to this run only: it may end while the group goes on in the next.
	err = c.SignalWorkflow(ctx, id, "", workflows.SignalConfigure, workflows.ConfigureRequest{RequestID: uuid.NewString(), Input: want})
	var ended *serviceerror.NotFound
	switch {
	case errors.As(err, &ended):
		return err
	case err != nil:
		return temporalFault("configure "+id, err)
	case len(changed) == 0:
		log.InfoContext(ctx, "the group's entity runs already, and was told the file again")
	default:
		log.InfoContext(ctx, "the group goes on as the file says; its machines stay, new ones are made so",
			"changed", strings.Join(changed, ", "), "min", want.Min, "max", want.Max)
	}
	return nil
}

// entity is a running entity as its run's history shows it.
type entity struct {
	started workflows.GroupInput
	// now is what it was started with and everything that it was told since. It
	// is no proof: the entity may have refused something.
	now  workflows.GroupInput
	told bool
}

// read reads the history of a run from its begin to its end: any message may
// have changed what the group is.
func (o StartOptions) read(ctx context.Context, c Temporal, id string, run *latestRun, name string) (entity, error) {
	op := "start " + id
	var e entity
	events := c.GetWorkflowHistory(ctx, id, run.id, false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	if !events.HasNext() {
		return e, fault.New(fault.Unavailable, op, "its history is empty")
	}
	first, err := events.Next()
	if err != nil {
		return e, temporalFault("read the history of "+id, err)
	}
	begun := first.GetWorkflowExecutionStartedEventAttributes()
	if begun.GetWorkflowType().GetName() != workflows.TypeScaleNodeGroup {
		return e, fault.New(fault.Conflict, op, "a workflow of type %q has this id", begun.GetWorkflowType().GetName())
	}
	if err := o.Converter.FromPayloads(begun.GetInput(), &e.started); err != nil {
		return e, fault.New(fault.Conflict, op, "the input of the running entity cannot be read; is it encrypted with other keys? (%v)", err)
	}
	if e.started.Standalone == nil {
		return e, fault.New(fault.Conflict, op, "it belongs to a cluster that Ichor made; serve that with --cluster %s, or give this one another name", name)
	}
	e.now = e.started
	for events.HasNext() {
		event, err := events.Next()
		if err != nil {
			return e, temporalFault("read the history of "+id, err)
		}
		if told := configuring(event); told != nil {
			o.tell(&e, told)
		}
	}
	return e, nil
}

// configuring is the payload of a message that configures, sent in either way,
// and nil for any other event.
func configuring(event *historypb.HistoryEvent) *commonpb.Payloads {
	if s := event.GetWorkflowExecutionSignaledEventAttributes(); s.GetSignalName() == workflows.SignalConfigure {
		return s.GetInput()
	}
	if u := event.GetWorkflowExecutionUpdateAcceptedEventAttributes().GetAcceptedRequest().GetInput(); u.GetName() == workflows.SignalConfigure {
		return u.GetArgs()
	}
	return nil
}

// tell does to e what the entity does with a message, as far as that matters
// here. One that makes no sense changes nothing.
func (o StartOptions) tell(e *entity, message *commonpb.Payloads) {
	e.told = true
	var req workflows.ConfigureRequest
	if err := o.Converter.FromPayloads(message, &req); err != nil {
		return
	}
	in := req.Input
	if in.Standalone == nil || in.Group != e.started.Group || in.Cluster.Name != e.started.Cluster.Name {
		return
	}
	in.Cluster = e.started.Cluster
	if len(in.Subnets) == 0 {
		in.Subnets = e.now.Subnets
	}
	if len(in.Params) == 0 {
		in.Params = e.now.Params
	}
	e.now = in
}

// refuse names what an entity cannot be told to change.
func (e entity) refuse(id string, want workflows.GroupInput) error {
	fixed := []string{
		"cloud", "credentials", "cluster", // where the machines are, and whose
		"tag", // machines are taken over once only, at the begin
	}
	changed := slices.DeleteFunc(differences(e.started, want), func(f string) bool { return !slices.Contains(fixed, f) })
	// To the entity, none of these means those that it has.
	if len(want.Subnets) == 0 && len(e.now.Subnets) > 0 {
		changed = append(changed, "subnets")
	}
	if len(want.Params) == 0 && len(e.now.Params) > 0 {
		changed = append(changed, "params")
	}
	if len(changed) == 0 {
		return nil
	}
	message := fmt.Sprintf("it runs with another %s than the file has, which it keeps for as long as it runs. Put that back", strings.Join(changed, ", "))
	if e.started.Cluster == want.Cluster {
		message += fmt.Sprintf("; or, to let the group go on as the file says (its machines stay, and are found again by their tags), run\n"+
			"  temporal workflow terminate --workflow-id %s --reason 'new configuration'\nand start the provider again", id)
	}
	return fault.New(fault.Conflict, "start "+id, "%s", message)
}

// differences names the fields of the file in which two inputs differ. What
// entities change by themselves does not count.
func differences(have, want workflows.GroupInput) []string {
	var out []string
	for _, f := range []struct {
		field      string
		have, want any
	}{
		{"cloud", have.Cloud.Provider, want.Cloud.Provider},
		{"credentials", have.Cloud.Credentials, want.Cloud.Credentials},
		{"cluster", have.Cluster, want.Cluster},
		{"zone", have.Zone, want.Zone},
		{"flavor", have.Flavor, want.Flavor},
		{"image", have.ImageID, want.ImageID},
		{"min", have.Min, want.Min},
		{"max", have.Max, want.Max},
		{"diskGiB", have.DiskGiB, want.DiskGiB},
		{"networks", have.Networks, want.Networks},
		{"subnets", have.Subnets, want.Subnets},
		{"params", have.Params, want.Params},
		{"tags", have.Tags, want.Tags},
		{"antiAffinity", have.Spread, want.Spread},
		{"alternatives", have.Alternatives, want.Alternatives},
		{"autoscaling", have.Autoscaling, want.Autoscaling},
		{"kubeconfig", have.Standalone.Kube, want.Standalone.Kube},
		{"userData", have.Standalone.UserData, want.Standalone.UserData},
		{"tag", []any{have.Standalone.AdoptTag, have.Standalone.AdoptAlso}, []any{want.Standalone.AdoptTag, want.Standalone.AdoptAlso}},
		{"labels", have.Standalone.Labels, want.Standalone.Labels},
		{"taints", have.Standalone.Taints, want.Standalone.Taints},
	} {
		if !same(f.have, f.want) {
			out = append(out, f.field)
		}
	}
	// Another uid is a consequence of other credentials, or of another cloud.
	if slices.Contains(out, "credentials") || slices.Contains(out, "cloud") {
		out = slices.DeleteFunc(out, func(s string) bool { return s == "cluster" || s == "kubeconfig" })
	}
	return out
}

// same compares as the inputs travel, so that absent and empty are one.
func same(a, b any) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	blank := func(s []byte) string {
		if t := string(s); t != "[]" && t != "{}" {
			return t
		}
		return "null"
	}
	return errX == nil && errY == nil && blank(x) == blank(y)
}
