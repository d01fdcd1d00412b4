package workflows

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/plan"
)

// Steps of ProvisionCluster, as people read them.
const (
	stepSpec       = "check spec, open record"
	stepFreeze     = "resolve cloud, versions and image"
	stepPKI        = "PKI bundle"
	stepImage      = "operating system image"
	stepInfra      = "network and endpoint"
	stepConfigs    = "base machine configs"
	stepControl    = "control plane machines"
	stepEndpoint   = "endpoint members"
	stepAPI        = "machine API"
	stepBootstrap  = "bootstrap etcd"
	stepKubernetes = "Kubernetes API"
	stepVoters     = "etcd voters"
	stepAddons     = "secrets and manifests"
	stepGroups     = "node groups"
	stepReady      = "nodes ready"
	stepPublish    = "publish"
)

var provisionSteps = []string{
	stepSpec, stepFreeze, stepPKI, stepImage, stepInfra, stepConfigs, stepControl, stepEndpoint,
	stepAPI, stepBootstrap, stepKubernetes, stepVoters, stepAddons, stepGroups, stepReady, stepPublish,
}

// ProvisionCluster creates the cluster of a spec, or finds that it exists. It
// runs under cluster.LifecycleID, the lock of the cluster. On failure or cancel
// it undoes what it did, newest first, or keeps it, as the spec says.
func ProvisionCluster(ctx workflow.Context, in ProvisionInput) (ProvisionResult, error) {
	p, err := newProvision(ctx, in)
	if err != nil {
		return ProvisionResult{}, err
	}
	if err := p.runbook(ctx); err != nil {
		return ProvisionResult{}, p.recover(ctx, err)
	}
	return p.result, nil
}

// runbook is what happens, in this order; what stands on one line happens at the
// same time.
func (p *provision) runbook(ctx workflow.Context) error {
	for _, line := range [][]phase{
		{{stepSpec, p.openRecord}},
		{{stepFreeze, p.freeze}},
		{{stepPKI, p.secrets}, {stepImage, p.image}, {stepInfra, p.infrastructure}},
		{{stepConfigs, p.baseConfigs}},
		{{stepControl, p.controlPlane}},
		{{stepEndpoint, p.endpointMembers}, {stepAPI, p.machineAPI}},
		{{stepBootstrap, p.bootstrap}},
		{{stepKubernetes, p.kubernetesAPI}},
		{{stepVoters, p.voters}, {stepAddons, p.addons}, {stepGroups, p.nodeGroups}},
		{{stepReady, p.nodesReady}},
		{{stepPublish, p.publish}},
	} {
		if err := p.together(ctx, line); err != nil {
			return err
		}
		if p.result.Unchanged {
			return nil
		}
	}
	return nil
}

// provision is a running ProvisionCluster.
type provision struct {
	lifecycle
	in     ProvisionInput
	uid    string
	result ProvisionResult
	// resumed says that an earlier run may have left creates under way.
	resumed bool
	frozen  cluster.Frozen
	steps   []cloud.Step
	have    []cloud.Resource
	control []cluster.NodeAddress
	boot    cluster.NodeAddress
	undo    []undo
}

func newProvision(ctx workflow.Context, in ProvisionInput) (*provision, error) {
	if in.problem != "" {
		return nil, fail(fault.Invalid, "the input is not a cluster spec: %s", in.problem)
	}
	name := in.Metadata.Name
	if err := checkID(ctx, cluster.LifecycleID(name), TypeProvisionCluster); err != nil {
		return nil, err
	}
	sum := sha256.Sum256([]byte(name + "/" + workflow.GetInfo(ctx).OriginalRunID))
	p := &provision{in: in, uid: hex.EncodeToString(sum[:6])}
	p.spec = in.Spec
	return p, p.begin(ctx, TypeProvisionCluster, cluster.Ref{Name: name, UID: p.uid}, cluster.PhaseCreating, provisionSteps)
}

// openRecord checks the spec and begins the record. A ready cluster of the same
// spec ends the run successfully.
func (p *provision) openRecord(ctx workflow.Context) error {
	opts := p.short("check the spec, open the record")
	// A cluster that exists differently stays different however often one asks.
	opts.RetryPolicy.NonRetryableErrorTypes = []string{string(fault.Conflict)}
	// A cancel that comes meanwhile waits for the answer: it says whether there is
	// a record to close.
	calm, cancel := workflow.NewDisconnectedContext(ctx)
	defer cancel()
	out, err := call(calm, &p.desk, opts, aRecords.OpenRecord,
		activities.OpenRecordInput{Cluster: p.in.Cluster, UID: p.uid})
	if err != nil {
		return err
	}
	p.spec, p.progress.Cluster = out.Record.Spec, out.Record.Ref
	p.frozen, p.resumed = out.Record.Frozen, out.Resumed
	p.result = ProvisionResult{Cluster: out.Record.Ref, Endpoint: out.Record.Endpoint}
	if out.Ready {
		p.result.Unchanged = true
		p.result.Message = fmt.Sprintf("cluster %q is ready already and its spec is the same; nothing was changed", p.ref().Name)
		if err := p.revive(ctx, out.Record.Entities); err != nil {
			return err
		}
		p.phase(ctx, cluster.PhaseReady)
		return nil
	}
	p.undo = append(p.undo, undo{what: undoRecord})
	if p.resumed {
		// What an earlier run made is this run's to take back, too.
		p.parks, p.unknown = true, true
		if p.frozen.Image != "" {
			p.undo = append(p.undo, undo{what: undoImage})
		}
		for _, id := range out.Record.Entities {
			p.undo = append(p.undo, undo{what: undoGroup, group: groupOf(id)})
		}
	}
	p.phase(ctx, cluster.PhaseCreating)
	return nil
}

// freeze resolves once what must never change by itself. A run that goes on
// with a record uses what the record froze.
func (p *provision) freeze(ctx workflow.Context) error {
	site, err := call(ctx, &p.desk, p.short("resolve the cloud account"), aCloud.ResolveCloud,
		activities.ResolveCloudInput{Ref: p.ref(), Spec: p.spec})
	if err != nil {
		return err
	}
	p.site = Site{Account: site.Account, Capabilities: site.Capabilities, Timing: site.Timing}
	p.steps, p.parks = site.Steps, true
	if p.frozen.TalosVersion != "" {
		return nil
	}
	p.frozen, err = call(ctx, &p.desk, p.short("resolve versions, schematic and image"), aCloud.FreezeVersions,
		activities.FreezeInput{Spec: p.spec, Capabilities: site.Capabilities})
	if err != nil {
		return err
	}
	return p.save(ctx, activities.RecordChange{Frozen: &p.frozen})
}

func (p *provision) save(ctx workflow.Context, change activities.RecordChange) error {
	change.Ref = p.ref()
	_, err := call(ctx, &p.desk, p.short("update the record"), aRecords.UpdateRecord, change)
	return err
}

func (p *provision) secrets(ctx workflow.Context) error {
	if p.frozen.Bundle != "" {
		return nil
	}
	out, err := call(ctx, &p.desk, p.short("ensure the PKI bundle"), aRecords.EnsureSecrets,
		activities.EnsureSecretsInput{Ref: p.ref(), Contract: p.frozen.Contract})
	if err != nil {
		return err
	}
	p.frozen.Bundle = out.Bundle
	return p.save(ctx, activities.RecordChange{Frozen: &p.frozen})
}

// image imports or adopts the cluster's images, each under its own lock.
func (p *provision) image(ctx workflow.Context) error {
	p.undo = append(p.undo, undo{what: undoImage})
	for _, f := range p.frozen.Images() {
		out, err := holdImage(ctx, &p.desk, imageInput(p.ref(), p.spec, f, p.site))
		if err != nil {
			return err
		}
		p.frozen = p.frozen.Learned(f.Image, out.ID)
	}
	return p.save(ctx, activities.RecordChange{Frozen: &p.frozen})
}

// infrastructure ensures the cloud's resources one by one, in the cloud's order.
func (p *provision) infrastructure(ctx workflow.Context) error {
	for i, step := range p.steps {
		p.at(ctx, stepInfra, "%d of %d: %s", i+1, len(p.steps), step.Title)
		req := cloud.EnsureResourceRequest{Owner: p.owner(), Step: step, Have: p.have}
		ev := p.evidence(ctx)
		p.undo = append(p.undo, undo{what: undoResource, req: req, evidence: ev})
		r, err := ensureResource(ctx, &p.desk, p.spec.Cloud, req, ev)
		if err != nil {
			return err
		}
		p.have = append(p.have, r)
	}
	host := p.spec.Endpoint.Address
	if host == "" {
		var err error
		host, err = call(ctx, &p.desk, p.short("find the endpoint's address"), aCloud.GetEndpointHost,
			activities.EndpointInput{Cloud: p.spec.Cloud, Have: p.have})
		if err != nil {
			return err
		}
	}
	p.result.Endpoint = "https://" + host + ":6443"
	p.progress.Endpoint = p.result.Endpoint
	return p.save(ctx, activities.RecordChange{Endpoint: p.result.Endpoint})
}

// evidence starts clean, unless an earlier run of this cluster may have left a
// create under way.
func (p *provision) evidence(ctx workflow.Context) *plan.Evidence {
	if !p.resumed {
		return &plan.Evidence{}
	}
	return &plan.Evidence{Pending: true, Since: workflow.Now(ctx)}
}

func (p *provision) baseConfigs(ctx workflow.Context) error {
	out, err := call(ctx, &p.desk, p.short("render and store base machine configs"), aRecords.EnsureBaseConfigs,
		activities.EnsureBaseConfigsInput{Ref: p.ref()})
	if err != nil {
		return err
	}
	p.frozen.BaseConfig = out.BaseConfig
	return p.save(ctx, activities.RecordChange{Frozen: &p.frozen})
}

// publish makes the cluster ready in the record; what people need is minted from
// the stored bundle on demand.
func (p *provision) publish(ctx workflow.Context) error {
	p.undo = append(p.undo, undo{what: undoSweep})
	err := do(ctx, &p.desk, p.short("schedule sweeps for orphans"), aSweeps.EnsureSweep, activities.EnsureSweepInput{Ref: p.ref()})
	if err != nil {
		return err
	}
	if err := p.save(ctx, activities.RecordChange{Phase: cluster.PhaseReady}); err != nil {
		return err
	}
	for _, name := range p.groupNames() {
		p.result.Nodes += len(p.groups[name].members)
	}
	p.result.Message = fmt.Sprintf("cluster %q is ready: %d nodes; run: ichor kubeconfig %s", p.ref().Name, p.result.Nodes, p.ref().Name)
	p.phase(ctx, cluster.PhaseReady)
	return nil
}

// recover ends a run that failed or was cancelled: it undoes or keeps, says what
// remains, and returns the first error.
func (p *provision) recover(ctx workflow.Context, err error) error {
	calm, cancel := workflow.NewDisconnectedContext(ctx)
	defer cancel()
	p.progress.Failure = failureOf(err)
	if len(p.undo) == 0 {
		return err // nothing was begun
	}
	if p.spec.OnFailure == cluster.OnFailureKeep {
		p.keep(calm, err)
	} else {
		p.rollback(calm, err)
	}
	if temporal.IsCanceledError(err) {
		return temporal.NewCanceledError(p.outcome(), p.progress.Remaining)
	}
	return fail(kindOf(err), "%s; %s", messageOf(err), p.outcome())
}
