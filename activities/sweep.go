package activities

import (
	"context"
	"slices"
	"time"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
)

// SweepMode says what a sweep does with machines that nobody claims.
type SweepMode string

// Modes of sweeps.
const (
	SweepOff    SweepMode = "off"
	SweepReport SweepMode = "report" // a dry run: name them, touch nothing
	SweepDelete SweepMode = "delete"
)

// SweepSettings are settings of the worker, frozen into a cluster's schedule.
type SweepSettings struct {
	Mode SweepMode `json:"mode"`
	// Every is the time between two sweeps, Age the least age of a machine
	// that may be called an orphan.
	Every time.Duration `json:"every"`
	Age   time.Duration `json:"age"`
}

// Schedules runs a workflow again and again.
type Schedules interface {
	// EnsureSchedule starts the sweeps of a cluster; an existing schedule is
	// left as it is.
	EnsureSchedule(ctx context.Context, ref cluster.Ref, s SweepSettings) error
	// DeleteSchedule ends them. Absent is success.
	DeleteSchedule(ctx context.Context, ref cluster.Ref) error
}

// Owners knows which machines the running groups of a cluster claim.
type Owners interface {
	// Claims returns the cloud ids of the machines of the groups with these
	// workflow ids. An
	// owner that cannot be read is an error: its machines must not be called
	// orphans. A group that does not run claims nothing.
	Claims(ctx context.Context, entities []string) ([]string, error)
}

// Sweeps starts, ends and does the sweeps of clusters.
type Sweeps struct {
	Store     Store
	Clouds    Clouds
	Schedules Schedules
	Owners    Owners
	Settings  SweepSettings
	Now       func() time.Time
}

// EnsureSweepInput names a cluster.
type EnsureSweepInput struct {
	Ref cluster.Ref `json:"ref"`
}

// EnsureSweep schedules the sweeps of a cluster, unless the worker's settings
// switch them off.
func (s *Sweeps) EnsureSweep(ctx context.Context, in EnsureSweepInput) error {
	defer alive(ctx, "scheduling sweeps")()
	if s.Settings.Mode == SweepOff || s.Settings.Mode == "" {
		return nil
	}
	return s.Schedules.EnsureSchedule(ctx, in.Ref, s.Settings)
}

// DeleteSweep ends the sweeps of a cluster. Absent is success.
func (s *Sweeps) DeleteSweep(ctx context.Context, in EnsureSweepInput) error {
	defer alive(ctx, "ending sweeps")()
	return s.Schedules.DeleteSchedule(ctx, in.Ref)
}

// FindOrphansInput names a cluster and what the sweep before found.
type FindOrphansInput struct {
	Ref cluster.Ref   `json:"ref"`
	Age time.Duration `json:"age"`
	// Suspects are the cloud ids that nobody claimed in the sweep before.
	Suspects []string `json:"suspects,omitempty"`
}

// FindOrphansResult is what one sweep saw.
type FindOrphansResult struct {
	// Unclaimed are the cloud ids that nobody claims now, sorted.
	Unclaimed []string `json:"unclaimed,omitempty"`
	// Orphans were unclaimed twice and are old enough.
	Orphans []cloud.Machine `json:"orphans,omitempty"`
	Seen    int             `json:"seen"`
	// Skipped says why nothing can be said.
	Skipped string `json:"skipped,omitempty"`
}

// FindOrphans compares the machines that carry the cluster's tags with those
// that its groups claim. It writes nothing. Owners are asked after the list was
// made, so that a machine made in between is not missed.
func (s *Sweeps) FindOrphans(ctx context.Context, in FindOrphansInput) (FindOrphansResult, error) {
	defer alive(ctx, "comparing machines with claims")()
	var out FindOrphansResult
	rec, _, err := (&Records{Store: s.Store}).record(ctx, in.Ref)
	if err != nil {
		return out, err
	}
	if rec.Phase != cluster.PhaseReady {
		out.Skipped = "the cluster is " + string(rec.Phase)
		return out, nil
	}
	p, _, err := s.Clouds.Open(ctx, rec.Spec.Cloud)
	if err != nil {
		return out, err
	}
	machines, err := p.ListMachines(ctx, cloud.Owner{Cluster: rec.Ref})
	if err != nil {
		return out, err
	}
	claimed, err := s.Owners.Claims(ctx, rec.Entities)
	if err != nil {
		if fault.Is(err, fault.Unavailable, fault.NotYet) {
			out.Skipped = err.Error()
			return out, nil
		}
		return out, err
	}
	out.Seen = len(machines)
	for _, m := range machines {
		if slices.Contains(claimed, m.Ref.Cloud) {
			continue
		}
		out.Unclaimed = append(out.Unclaimed, m.Ref.Cloud)
		if slices.Contains(in.Suspects, m.Ref.Cloud) && s.Now().Sub(m.CreatedAt) >= in.Age {
			out.Orphans = append(out.Orphans, m)
		}
	}
	slices.Sort(out.Unclaimed)
	return out, nil
}
