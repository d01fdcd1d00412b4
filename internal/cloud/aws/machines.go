package aws

import (
	"cmp"
	"context"
	"slices"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cloud/exchange"
	"github.com/ichor-project/ichor/internal/fault"
)

// EnsureMachine implements cloud.Provider. With Create the look comes first, to
// repair duplicates and to spare the request; that it may be empty by lag does
// no harm, since the cloud makes one machine of an attempt however often it is
// asked. NotFound says that the machine of this attempt was made and is gone.
func (p *Provider) EnsureMachine(ctx context.Context, req cloud.EnsureMachineRequest) (cloud.MachineLook, error) {
	// The wall clock, so that a process that was stopped for a while counts it.
	sendBy := p.calls.SendBy()
	if req.Create {
		if err := p.checkMachine(req); err != nil {
			return cloud.MachineLook{}, err
		}
	}
	look, _, err := p.lookForMachine(ctx, req)
	if err != nil || look.Machine != nil || !req.Create {
		return look, err
	}
	return p.createMachine(ctx, req, sendBy)
}

// lookForMachine adopts the machine of the spec's id, and repairs. It returns the
// instances with the id, too, terminated ones included.
func (p *Provider) lookForMachine(ctx context.Context, req cloud.EnsureMachineRequest) (cloud.MachineLook, []instance, error) {
	found, err := p.instancesOf(ctx, cloud.MachineRef{Owner: req.Spec.Owner, ID: req.Spec.ID})
	if err != nil {
		return cloud.MachineLook{}, nil, err
	}
	look, err := p.adopt(ctx, req, found)
	return look, found, err
}

// adopt keeps one of the instances with the spec's id. One that is on its way out
// is reported only to those who do not want to create.
func (p *Provider) adopt(ctx context.Context, req cloud.EnsureMachineRequest, found []instance) (cloud.MachineLook, error) {
	spec := req.Spec
	var look cloud.MachineLook
	var good, wrong, ending []instance
	for _, i := range found {
		switch {
		case i.ending():
			ending = append(ending, i)
		case i.terminated():
		case i.tags[cloud.TagRequest] == fingerprint(spec) && misplaced(spec, &i) != "":
			// The request was the same, so the cloud did not do what it was told.
			wrong = append(wrong, i)
		default:
			good = append(good, i)
		}
	}
	slices.SortFunc(good, older)
	doomed := wrong
	if len(good) > 1 {
		doomed = append(doomed, good[1:]...)
	}
	if len(doomed) > 0 {
		if err := p.terminate(ctx, spec.Name, doomed); err != nil {
			return look, err
		}
		look.Removed = len(doomed)
		p.log.WarnContext(ctx, "terminated instances that should not be", "instances", ids(doomed), "machine", spec.ID, "cluster", spec.Owner.Cluster.Name)
	}
	switch {
	case len(good) > 0:
		m := good[0].machine()
		look.Machine = &m
	case len(wrong) > 0:
		return look, fault.New(fault.Conflict, "look for instance "+spec.Name, "%s; its termination was asked for", misplaced(spec, &wrong[0]))
	case len(ending) > 0 && !req.Create:
		oldest := slices.MinFunc(ending, older)
		m := oldest.machine()
		look.Machine = &m
	}
	return look, nil
}

func (p *Provider) createMachine(ctx context.Context, req cloud.EnsureMachineRequest, sendBy time.Time) (cloud.MachineLook, error) {
	spec := req.Spec
	op := "create instance " + spec.Name
	in := launchRequest(spec, req.UserData.Reveal())
	p.seen.Making(machineKey(spec.Owner, spec.ID))
	var out *ec2.RunInstancesOutput
	err := p.calls.Call(ctx, exchange.Request{Op: op, Action: "RunInstances", Verb: exchange.Create, SendBy: sendBy}, func(ctx context.Context) (err error) {
		out, err = p.ec2.RunInstances(ctx, in)
		return err
	})
	if fault.Is(err, fault.NotFound) { // of all codes only the token's says this of a create
		return cloud.MachineLook{}, gone(op, spec)
	}
	if codeOf(err) == codeMismatch {
		return p.heardBefore(ctx, req)
	}
	if err != nil {
		return cloud.MachineLook{}, err
	}
	if len(out.Instances) != 1 || !plausibleID(sdk.ToString(out.Instances[0].InstanceId)) {
		return cloud.MachineLook{}, fault.New(fault.Ambiguous, op, "the cloud answered with %d instances", len(out.Instances))
	}
	i := instanceOf(&out.Instances[0])
	p.seen.Saw(i.id, i.launched)
	switch {
	case i.terminated():
		return cloud.MachineLook{}, gone(op, spec)
	case i.ending():
		return cloud.MachineLook{}, fault.New(fault.Conflict, op, "instance %s of attempt %d is being terminated", i.id, spec.Attempt)
	}
	if problem := cmp.Or(misplaced(spec, &i), cloud.MissingTags(machineTags(spec), i.tags)); problem != "" {
		// Nobody may adopt it. If this fails, the next look terminates it.
		if err := p.terminate(ctx, spec.Name, []instance{i}); err != nil {
			p.log.WarnContext(ctx, "a misplaced instance could not be terminated yet", "instance", i.id, "error", err)
		}
		return cloud.MachineLook{}, fault.New(fault.Internal, op, "the cloud made something else: %s", problem)
	}
	m := i.machine()
	// What runs already was made by an earlier request with this token.
	return cloud.MachineLook{Machine: &m, Created: i.state == types.InstanceStateNamePending}, nil
}

// heardBefore settles a create that the cloud refused since it had heard another
// one with the same token: the request has changed since, by another release of
// this program or by secrets that were renewed. So this one made nothing, and what
// the first one made is the machine. Until that is visible nobody can say more:
// Ambiguous. When it is terminated, or not to be seen for as long as the cloud's
// readers may lag (the first one may have failed after all), the token is spent.
func (p *Provider) heardBefore(ctx context.Context, req cloud.EnsureMachineRequest) (cloud.MachineLook, error) {
	spec, token := req.Spec, clientToken(req.Spec)
	op := "create instance " + spec.Name
	unsettled := func(format string, args ...any) error {
		f := fault.New(fault.Ambiguous, op, "another request of attempt %d was heard before: "+format, append([]any{spec.Attempt}, args...)...)
		f.Code = codeMismatch
		return f
	}
	look, found, err := p.lookForMachine(ctx, req)
	if look.Machine != nil && err == nil {
		return look, nil
	}
	if err != nil {
		return look, unsettled("%v", err)
	}
	n := slices.IndexFunc(found, func(i instance) bool { return i.token == token })
	switch {
	case n >= 0 && found[n].terminated():
		return look, gone(op, spec)
	case n >= 0:
		return look, unsettled("its instance %s is being terminated", found[n].id)
	}
	if err := p.seen.Absent(op, "the instance of token "+token); !fault.Is(err, fault.NotFound) {
		return look, unsettled("its instance is not visible yet")
	}
	return look, gone(op, spec)
}

// gone says that a token is spent.
func gone(op string, s cloud.MachineSpec) error {
	f := fault.New(fault.NotFound, op, "the instance of attempt %d is gone; only another attempt makes a new one", s.Attempt)
	f.Code = codeTerminated
	return f
}

// terminate asks for the end of instances; absent ones are fine.
func (p *Provider) terminate(ctx context.Context, name string, which []instance) error {
	err := p.calls.Call(ctx, exchange.Request{Op: "terminate instance " + name, Action: "TerminateInstances", Verb: exchange.Remove}, func(ctx context.Context) error {
		_, err := p.ec2.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: ids(which)})
		return err
	})
	if fault.Is(err, fault.NotFound) {
		// One that is not visible keeps all of them from being terminated.
		return &fault.Error{Kind: fault.NotYet, Op: "terminate instance " + name, Code: codeNoInstance, Message: "an instance is not visible to the cloud itself at the moment"}
	}
	return err
}

func ids(which []instance) []string {
	out := make([]string, len(which))
	for i := range which {
		out[i] = which[i].id
	}
	return out
}

// machineKey names a machine to sightings when it has no id of the cloud.
func machineKey(o cloud.Owner, id string) string { return "machine " + id + " of " + o.Cluster.UID }

// GetMachine implements cloud.Provider. A terminated instance is NotFound; one
// that is only not visible is NotYet; one that exists without the machine's
// identity is a Conflict.
func (p *Provider) GetMachine(ctx context.Context, ref cloud.MachineRef) (cloud.Machine, error) {
	const op = "read instance"
	if ref.Cloud == "" {
		found, err := p.instancesOf(ctx, ref)
		if err != nil {
			return cloud.Machine{}, err
		}
		found = slices.DeleteFunc(found, func(i instance) bool { return i.terminated() })
		if len(found) == 0 {
			// A terminated one says nothing of the next attempt's.
			return cloud.Machine{}, p.seen.Absent(op, machineKey(ref.Owner, ref.ID))
		}
		p.seen.Making(machineKey(ref.Owner, ref.ID))
		return new(slices.MinFunc(found, func(a, b instance) int { return cmp.Or(rank(&a)-rank(&b), older(a, b)) })).machine(), nil
	}
	i, err := p.instance(ctx, ref.Cloud)
	switch {
	case err != nil:
		return cloud.Machine{}, err
	case !ref.Named(i.tags):
		return cloud.Machine{}, notOurs(op, ref)
	case i.terminated():
		return cloud.Machine{}, fault.New(fault.NotFound, op, "instance %s is terminated", i.id)
	}
	return i.machine(), nil
}

// rank prefers what lives to what is being terminated.
func rank(i *instance) int {
	if i.live() {
		return 0
	}
	return 1
}

func notOurs(op string, ref cloud.MachineRef) error {
	return fault.New(fault.Conflict, op, "instance %s does not carry the tags of machine %s of cluster %s", ref.Cloud, ref.ID, ref.Owner.Cluster.Name)
}

// ListMachines implements cloud.Provider, with one paged read for the whole
// cluster. Terminated instances are no machines any more.
func (p *Provider) ListMachines(ctx context.Context, owner cloud.Owner) ([]cloud.Machine, error) {
	if owner.Cluster.UID == "" {
		return nil, fault.New(fault.Internal, "list instances", "the owner has no cluster uid")
	}
	all, err := p.describe(ctx, "list instances", filter("tag:"+tagCluster, owner.Cluster.UID))
	if err != nil {
		return nil, err
	}
	out := []cloud.Machine{}
	for n := range all {
		if i := &all[n]; owner.Has(i.tags) && i.tags[tagMachine] != "" && !i.terminated() {
			out = append(out, i.machine())
		}
	}
	slices.SortFunc(out, cloud.CompareMachines)
	return out, nil
}

// DeleteMachine implements cloud.Provider. It terminates everything that carries
// the machine's identity, duplicates included. Gone is what the cloud shows as
// terminated, or what has not been visible for long enough.
func (p *Provider) DeleteMachine(ctx context.Context, ref cloud.MachineRef) (bool, error) {
	const op = "terminate instance"
	found, err := p.instancesOf(ctx, ref)
	if err != nil {
		return false, err
	}
	var unproven error
	if ref.Cloud == "" {
		// Nothing else is known of it than its tags.
		if !slices.ContainsFunc(found, func(i instance) bool { return !i.terminated() }) {
			unproven = p.seen.Absent(op, machineKey(ref.Owner, ref.ID))
		}
	} else if !slices.ContainsFunc(found, func(i instance) bool { return i.id == ref.Cloud }) {
		i, err := p.instance(ctx, ref.Cloud)
		switch {
		case fault.Is(err, fault.NotFound, fault.NotYet):
			unproven = err
		case err != nil:
			return false, err
		case !ref.Named(i.tags):
			return false, notOurs(op, ref)
		default:
			found = append(found, i)
		}
	}
	ending := slices.ContainsFunc(found, func(i instance) bool { return i.ending() })
	if live := slices.DeleteFunc(found, func(i instance) bool { return !i.live() }); len(live) > 0 {
		return false, p.terminate(ctx, live[0].tags[tagName], live)
	}
	if ending {
		return false, nil
	}
	if unproven != nil && !fault.Is(unproven, fault.NotFound) {
		return false, unproven
	}
	return true, nil
}
