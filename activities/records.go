package activities

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
)

// Records reads and writes cluster records and what lies beside them.
type Records struct {
	Store   Store
	Checker Checker
	Configs MachineConfigs
	// Now is the clock of record time stamps.
	Now func() time.Time
}

// OpenRecordInput asks for the record of a cluster that shall be created.
type OpenRecordInput struct {
	Cluster cluster.Cluster `json:"cluster"`
	// UID is used if the name is free.
	UID string `json:"uid"`
}

// OpenRecordResult is the record to go on with.
type OpenRecordResult struct {
	Record cluster.Record `json:"record"`
	// Ready says that the cluster exists as specified; nothing is to be done.
	Ready bool `json:"ready,omitempty"`
	// Resumed says that an earlier creation left this record.
	Resumed bool `json:"resumed,omitempty"`
}

// OpenRecord checks the spec and opens, or begins, the cluster's record. A live
// cluster with another spec is Conflict: provisioning never changes a cluster.
// Safe to repeat: the same UID finds its own record.
func (r *Records) OpenRecord(ctx context.Context, in OpenRecordInput) (OpenRecordResult, error) {
	defer alive(ctx, "opening the record")()
	const op = "open cluster record"
	var out OpenRecordResult
	spec, digest, err := r.Checker.Check(ctx, in.Cluster)
	if err != nil {
		return out, err
	}
	name := spec.Metadata.Name
	old, rev, err := r.Store.Record(ctx, name)
	switch {
	case fault.Is(err, fault.NotFound):
	case err != nil:
		return out, err
	case old.Phase == cluster.PhaseDeleted:
	case old.SpecDigest != digest && old.Ref.UID != in.UID:
		return out, fault.New(fault.Conflict, op,
			"cluster %q exists (uid %s, phase %s) with another spec; provision never changes a cluster: delete it first or choose another name", name, old.Ref.UID, old.Phase)
	case old.Phase == cluster.PhaseDeleting:
		return out, fault.New(fault.Conflict, op, "cluster %q is half deleted; run: ichor delete %s", name, name)
	default:
		if old.Phase != cluster.PhaseReady {
			if err := r.haveBodies(ctx, spec); err != nil {
				return out, err
			}
		}
		return OpenRecordResult{Record: old, Ready: old.Phase == cluster.PhaseReady, Resumed: old.Ref.UID != in.UID}, nil
	}
	if err := r.haveBodies(ctx, spec); err != nil {
		return out, err
	}
	now := r.Now().UTC()
	rec := cluster.Record{
		Schema: 1, Ref: cluster.Ref{Name: name, UID: in.UID}, Phase: cluster.PhaseCreating,
		Spec: spec.Spec, SpecDigest: digest, CreatedAt: now, UpdatedAt: now,
	}
	switch _, err := r.Store.PutRecord(ctx, rec, rev); {
	case fault.Is(err, fault.Conflict): // not the cluster's fault: Conflict would end the run
		return out, fault.New(fault.NotYet, op, "the record of cluster %q was written by somebody else meanwhile", name)
	case err != nil:
		return out, err
	}
	return OpenRecordResult{Record: rec}, nil
}

// haveBodies proves that every document that the spec refers to is in the store,
// before anything is created. All that are missing are named.
func (r *Records) haveBodies(ctx context.Context, c cluster.Cluster) error {
	var problems problemList
	for _, s := range c.Sources() {
		switch _, err := r.Store.Body(ctx, s.Source.Ref, s.Source.SHA256); {
		case fault.Is(err, fault.NotFound, fault.Invalid):
			problems = append(problems, s.Field+": "+err.Error()+"; publish the spec again with: ichor spec publish")
		case err != nil:
			return err
		}
	}
	if len(problems) == 0 {
		return nil
	}
	return fault.Wrap(fault.Invalid, "read the documents of the spec", problems)
}

// RecordChange is what a step adds to a record; zero fields change nothing.
type RecordChange struct {
	Ref              cluster.Ref           `json:"ref"`
	Phase            cluster.Phase         `json:"phase,omitempty"`
	Frozen           *cluster.Frozen       `json:"frozen,omitempty"`
	Endpoint         string                `json:"endpoint,omitempty"`
	BootstrapMachine string                `json:"bootstrapMachine,omitempty"`
	Entities         []string              `json:"entities,omitempty"` // added
	ControlPlanes    []cluster.NodeAddress `json:"controlPlanes,omitempty"`
	Failure          string                `json:"failure,omitempty"`
	Account          string                `json:"account,omitempty"` // added
	// Released is the name of a former image that was given back, Holding an image
	// that is about to be taken into use: until it is the cluster's own it counts
	// as a former one, so that whoever deletes the cluster gives it back.
	Released string               `json:"released,omitempty"`
	Holding  *cluster.FormerImage `json:"holding,omitempty"`
}

// UpdateRecord applies a change and returns the record as it is then. Safe to
// repeat. Errors: NotFound, Conflict when the name belongs to another uid or
// when the bootstrap machine is already another one.
func (r *Records) UpdateRecord(ctx context.Context, in RecordChange) (cluster.Record, error) {
	defer alive(ctx, "updating the record")()
	return r.swap(ctx, in.Ref, func(rec *cluster.Record) (bool, error) { return true, apply(rec, in) })
}

// swap reads a record, lets change work on it, and writes it if change says so;
// when somebody else wrote in between it begins again.
func (r *Records) swap(ctx context.Context, ref cluster.Ref, change func(*cluster.Record) (bool, error)) (cluster.Record, error) {
	for attempt := 0; ; attempt++ {
		rec, rev, err := r.record(ctx, ref)
		if err != nil {
			return rec, err
		}
		if changed, err := change(&rec); err != nil || !changed {
			return rec, err
		}
		rec.UpdatedAt = r.Now().UTC()
		_, err = r.Store.PutRecord(ctx, rec, rev)
		if fault.Is(err, fault.Conflict) && attempt < 8 {
			continue // somebody else wrote in between: read again
		}
		return rec, err
	}
}

func apply(rec *cluster.Record, in RecordChange) error {
	if in.BootstrapMachine != "" {
		if rec.BootstrapMachine != "" && rec.BootstrapMachine != in.BootstrapMachine {
			return fault.New(fault.Unsafe, "choose the bootstrap machine",
				"etcd was bootstrapped on machine %s; a second bootstrap on %s would make a second cluster", rec.BootstrapMachine, in.BootstrapMachine)
		}
		rec.BootstrapMachine = in.BootstrapMachine
	}
	if in.Phase != "" && in.Phase != rec.Phase {
		if !slices.Contains(phaseAfter[rec.Phase], in.Phase) {
			return fault.New(fault.Conflict, "change the cluster's phase", "it is %s and cannot become %s any more", rec.Phase, in.Phase)
		}
		rec.Phase = in.Phase
		rec.Failure = ""
	}
	if in.Frozen != nil {
		fill(&rec.Frozen, *in.Frozen)
	}
	if in.Endpoint != "" {
		rec.Endpoint = in.Endpoint
	}
	for _, e := range in.Entities {
		if !slices.Contains(rec.Entities, e) {
			rec.Entities = append(rec.Entities, e)
		}
	}
	if in.ControlPlanes != nil {
		rec.ControlPlanes = in.ControlPlanes
	}
	if in.Failure != "" {
		rec.Failure = in.Failure
	}
	if in.Account != "" && !slices.Contains(rec.Accounts, in.Account) {
		rec.Accounts = append(rec.Accounts, in.Account)
	}
	if h := in.Holding; h != nil && h.Image != rec.Frozen.Image && !slices.Contains(rec.Former, *h) {
		rec.Former = append(rec.Former, *h)
	}
	if in.Released != "" {
		rec.Former = slices.DeleteFunc(rec.Former, func(f cluster.FormerImage) bool { return f.Image == in.Released })
	}
	return nil
}

// phaseAfter lists what may follow a phase. An attempt that was given up and
// wakes late must not bring back what is over.
var phaseAfter = map[cluster.Phase][]cluster.Phase{
	cluster.PhaseCreating: {cluster.PhaseReady, cluster.PhaseFailed, cluster.PhaseDeleting, cluster.PhaseDeleted},
	cluster.PhaseFailed:   {cluster.PhaseReady, cluster.PhaseDeleting, cluster.PhaseDeleted},
	cluster.PhaseReady:    {cluster.PhaseFailed, cluster.PhaseDeleting},
	cluster.PhaseDeleting: {cluster.PhaseDeleted},
}

// fill adds what is frozen to what was. Nothing is ever emptied, and what
// decides the cluster's identity is never replaced.
func fill(have *cluster.Frozen, add cluster.Frozen) {
	keep := func(into *string, v string) {
		if *into == "" {
			*into = v
		}
	}
	keep(&have.Contract, add.Contract)
	keep(&have.TalosVersion, add.TalosVersion)
	keep(&have.KubernetesVersion, add.KubernetesVersion)
	keep(&have.Schematic, add.Schematic)
	keep(&have.Image, add.Image)
	keep(&have.ImageURL, add.ImageURL)
	keep(&have.InstallerImage, add.InstallerImage)
	keep(&have.Bundle, add.Bundle)
	// An image that was deleted is imported again; the id of another image, by who
	// does not know of an upgrade, is not believed.
	if add.ImageID != "" && (add.Image == "" || add.Image == have.Image) {
		have.ImageID = add.ImageID
	}
	keep(&have.Arch, add.Arch)
	if len(have.Variants) == 0 {
		have.Variants = add.Variants
	}
	for _, v := range add.Variants {
		if v.ImageID != "" {
			*have = have.Learned(v.Image, v.ImageID)
		}
	}
	if len(have.BaseConfig) == 0 {
		have.BaseConfig = add.BaseConfig
	}
}

// GetRecordInput names a cluster.
type GetRecordInput struct {
	Name string `json:"name"`
}

// GetRecord reads a record. NotFound when the name was never used.
func (r *Records) GetRecord(ctx context.Context, in GetRecordInput) (cluster.Record, error) {
	defer alive(ctx, "reading the record")()
	rec, _, err := r.Store.Record(ctx, in.Name)
	return rec, err
}

// EnsureSecretsInput names the cluster whose PKI is wanted.
type EnsureSecretsInput struct {
	Ref      cluster.Ref `json:"ref"`
	Contract string      `json:"contract"`
}

// EnsureSecretsResult is a reference.
type EnsureSecretsResult struct {
	Bundle string `json:"bundle"` // store key
}

// EnsureSecrets makes the cluster's PKI bundle once and for all; every repeat
// and every concurrent run returns the same one.
func (r *Records) EnsureSecrets(ctx context.Context, in EnsureSecretsInput) (EnsureSecretsResult, error) {
	defer alive(ctx, "ensuring the PKI bundle")()
	key, err := r.Store.EnsureBundle(ctx, in.Ref, func() (secrets.Value, error) { return r.Configs.NewBundle(in.Contract) })
	return EnsureSecretsResult{Bundle: key}, err
}

// EnsureBaseConfigsInput names a cluster whose endpoint is known.
type EnsureBaseConfigsInput struct {
	Ref cluster.Ref `json:"ref"`
}

// EnsureBaseConfigsResult are references.
type EnsureBaseConfigsResult struct {
	BaseConfig []cluster.BaseConfig `json:"baseConfig"`
}

// EnsureBaseConfigs renders and stores the base config of each role once. Later
// versions of Ichor start from the stored bytes, so that a newer generator never
// changes an existing cluster.
func (r *Records) EnsureBaseConfigs(ctx context.Context, in EnsureBaseConfigsInput) (EnsureBaseConfigsResult, error) {
	defer alive(ctx, "rendering base configs")()
	var out EnsureBaseConfigsResult
	rec, _, err := r.record(ctx, in.Ref)
	if err != nil {
		return out, err
	}
	bundle, err := r.Store.Object(ctx, rec.Frozen.Bundle)
	if err != nil {
		return out, err
	}
	for _, role := range []cluster.Role{cluster.RoleControlPlane, cluster.RoleWorker} {
		body, err := r.Configs.Base(rec, bundle, role)
		if err != nil {
			return out, err
		}
		key, sum, err := r.Store.EnsureObject(ctx, in.Ref, "base-"+string(role), body)
		if err != nil {
			return out, err
		}
		out.BaseConfig = append(out.BaseConfig, cluster.BaseConfig{Role: role, Ref: key, SHA256: sum})
	}
	return out, nil
}

// ForgetClusterInput names a cluster of which nothing remains.
type ForgetClusterInput struct {
	Ref cluster.Ref `json:"ref"`
}

// ForgetCluster deletes the PKI bundle, configs and bodies and marks the record
// as deleted. The record itself stays: it tells what was. Safe to repeat.
func (r *Records) ForgetCluster(ctx context.Context, in ForgetClusterInput) error {
	defer alive(ctx, "forgetting secrets")()
	rec, _, err := r.record(ctx, in.Ref)
	if err != nil {
		return err
	}
	if err := r.Store.Forget(ctx, rec); err != nil {
		return err
	}
	_, err = r.UpdateRecord(ctx, RecordChange{Ref: in.Ref, Phase: cluster.PhaseDeleted})
	return err
}

func (r *Records) record(ctx context.Context, ref cluster.Ref) (cluster.Record, int64, error) {
	rec, rev, err := r.Store.Record(ctx, ref.Name)
	if err != nil {
		return rec, rev, err
	}
	if rec.Ref.UID != ref.UID {
		return rec, rev, fault.New(fault.Conflict, "read cluster record",
			"the name %q belongs to the cluster with uid %s now, not to %s", ref.Name, rec.Ref.UID, ref.UID)
	}
	return rec, rev, nil
}

// open reads a record and the bundle that belongs to it.
func open(ctx context.Context, s Store, ref cluster.Ref) (cluster.Record, secrets.Value, error) {
	rec, _, err := (&Records{Store: s}).record(ctx, ref)
	if err != nil {
		return rec, secrets.Value{}, err
	}
	if rec.Frozen.Bundle == "" {
		return rec, secrets.Value{}, fault.Wrap(fault.Internal, "read cluster record", errors.New("the record has no PKI bundle yet"))
	}
	bundle, err := s.Object(ctx, rec.Frozen.Bundle)
	return rec, bundle, err
}
