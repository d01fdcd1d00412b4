package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"golang.org/x/term"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/workflows"
)

// state is what `ichor status` knows: the record, which survives everything, and
// what runs, if Temporal can be asked.
type state struct {
	Cluster    cluster.Ref         `json:"cluster"`
	Phase      cluster.Phase       `json:"phase"`
	Cloud      cluster.Cloud       `json:"cloud"`
	Talos      string              `json:"talos,omitempty"`
	Contract   string              `json:"contract,omitempty"`
	Kubernetes string              `json:"kubernetes,omitempty"`
	Image      string              `json:"image,omitempty"`
	Endpoint   string              `json:"endpoint,omitempty"`
	SpecDigest string              `json:"specDigest,omitempty"`
	Created    time.Time           `json:"created,omitzero"`
	Updated    time.Time           `json:"updated,omitzero"`
	Failure    string              `json:"failure,omitempty"`
	Lifecycle  *lifecycle          `json:"lifecycle,omitempty"`
	Progress   *workflows.Progress `json:"progress,omitempty"`
	// Upgrade is how far an upgrade is that runs, LastUpgrade what one reported
	// that has ended.
	Upgrade     *workflows.UpgradeStatus `json:"upgrade,omitempty"`
	LastUpgrade string                   `json:"lastUpgrade,omitempty"`
	Groups      []workflows.GroupStatus  `json:"groups,omitempty"`
	// ControlPlanes are addresses of the machine API, from the record.
	ControlPlanes []cluster.NodeAddress `json:"controlPlanes,omitempty"`
	// Unknown says what could not be asked, and why.
	Unknown []string `json:"unknown,omitempty"`
}

func newStatus(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "status NAME",
		Short: "Say what a cluster is, what runs, and what remains",
		Long: `status reads the cluster's record from the store and asks Temporal what runs. The
record alone is enough: without Temporal, status says what it does not know. While an
upgrade runs, it shows its plan, its nodes, and what waits for a person.

--drift asks every node what it runs and compares that with the record: versions,
schematic and the digest of the machine config. It runs under the cluster's lock and
changes nothing. It exits with 1 when a node differs or does not answer.`,
		Args: cobra.ExactArgs(1),
	}
	drift := c.Flags().Bool("drift", false, "ask every node and compare it with the record")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if *drift {
			return a.drift(cmd.Context(), args[0])
		}
		s, err := a.state(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		if a.cfg.Output == outputJSON {
			return a.printJSON(s)
		}
		return s.print(a.out, time.Now())
	}
	return c
}

func (a *app) state(ctx context.Context, name string) (state, error) {
	st, err := a.openStore(ctx)
	if err != nil {
		return state{}, err
	}
	defer func() { _ = st.Close() }() // nothing is buffered
	rec, missing := record(ctx, st, name)
	if missing != nil && !fault.Is(missing, fault.NotFound) {
		return state{}, missing
	}
	s := state{
		Cluster: rec.Ref, Phase: rec.Phase, Cloud: rec.Spec.Cloud, Talos: rec.Frozen.TalosVersion, Contract: rec.Frozen.Contract,
		Kubernetes: rec.Frozen.KubernetesVersion, Image: rec.Frozen.Image, Endpoint: rec.Endpoint, SpecDigest: rec.SpecDigest,
		Created: rec.CreatedAt, Updated: rec.UpdatedAt, Failure: rec.Failure, ControlPlanes: rec.ControlPlanes,
	}
	s.Cluster.Name = name
	t, err := a.dial(ctx)
	if err != nil {
		if missing != nil {
			return s, missing
		}
		s.Unknown = append(s.Unknown, err.Error())
		return s, nil
	}
	defer t.Close()
	entities := rec.Entities
	if rec.Phase == cluster.PhaseDeleted {
		entities = nil // they have ended
	}
	s.ask(ctx, t, entities)
	if missing != nil && (s.Lifecycle == nil || !s.Lifecycle.Running) {
		return s, missing
	}
	return s, nil
}

// ask fills in what runs.
func (s *state) ask(ctx context.Context, t client.Client, entities []string) {
	l, err := describe(ctx, t, s.Cluster.Name)
	if err != nil {
		s.Unknown = append(s.Unknown, err.Error())
		return
	}
	if s.Lifecycle = l; l != nil {
		p, err := progressOf(ctx, t, s.Cluster.Name, l.RunID)
		if err == nil {
			s.Progress = &p
			if s.Phase == "" { // it runs, and has not come to write its record
				s.Cluster, s.Phase = p.Cluster, p.Phase
			}
		} else {
			s.Unknown = append(s.Unknown, err.Error())
		}
		s.askUpgrade(ctx, t, *l)
	}
	groups := make([]workflows.GroupStatus, len(entities))
	errs := make([]error, len(entities))
	var wg sync.WaitGroup
	for i, id := range entities {
		wg.Go(func() { groups[i], errs[i] = groupOf(ctx, t, id) })
	}
	wg.Wait()
	for i, err := range errs {
		var gone *serviceerror.NotFound
		switch {
		case err == nil:
			s.Groups = append(s.Groups, groups[i])
		case !errors.As(err, &gone):
			s.Unknown = append(s.Unknown, fmt.Sprintf("group %s: %v", entities[i], plain(err)))
		default:
			s.Unknown = append(s.Unknown, fmt.Sprintf("group %s: Temporal does not know it", entities[i]))
		}
	}
}

// askUpgrade fills in an upgrade, if that is the last run.
func (s *state) askUpgrade(ctx context.Context, t client.Client, l lifecycle) {
	switch {
	case l.Type != workflows.TypeRollingUpgrade:
	case !l.Running:
		s.LastUpgrade = lastUpgrade(ctx, t, s.Cluster.Name, l.RunID)
	default:
		u, err := upgradeOf(ctx, t, s.Cluster.Name, "")
		if err != nil {
			s.Unknown = append(s.Unknown, err.Error())
			return
		}
		s.Upgrade = &u
	}
}

// groupOf asks a group that runs. A run that has ended would answer, too; one
// that has just continued as new is asked again, as the next run.
func groupOf(ctx context.Context, t client.Client, id string) (workflows.GroupStatus, error) {
	var g workflows.GroupStatus
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	for {
		r, err := t.QueryWorkflowWithOptions(ctx, &client.QueryWorkflowWithOptionsRequest{
			WorkflowID: id, QueryType: workflows.QueryGroup, QueryRejectCondition: enumspb.QUERY_REJECT_CONDITION_NOT_OPEN,
		})
		switch {
		case err != nil:
			return g, err
		case r.QueryRejected == nil:
			return g, r.QueryResult.Get(&g)
		case r.QueryRejected.GetStatus() != enumspb.WORKFLOW_EXECUTION_STATUS_CONTINUED_AS_NEW:
			return g, serviceerror.NewNotFound("the group has ended")
		case !sleep(ctx, retryAfter):
			return g, ctx.Err()
		}
	}
}

// nodes are the members of all groups, or what the last run said of them.
func (s state) nodes() []workflows.MemberStatus {
	var out []workflows.MemberStatus
	for _, g := range s.Groups {
		out = append(out, memberRows(g)...)
	}
	if len(out) == 0 && s.Progress != nil {
		out = s.Progress.Nodes
	}
	return out
}

func (s state) print(out io.Writer, now time.Time) error {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	row := func(key, format string, args ...any) { fmt.Fprintf(w, "%s\t%s\n", key, fmt.Sprintf(format, args...)) }
	if s.Cluster.UID == "" {
		row("Cluster", "%s", s.Cluster.Name)
		row("Phase", "not recorded yet")
	} else {
		row("Cluster", "%s (uid %s)", s.Cluster.Name, s.Cluster.UID)
		phase := string(s.Phase)
		if s.Upgrade != nil {
			phase += ", " + string(cluster.PhaseUpgrading)
		}
		row("Phase", "%s", phase)
	}
	if s.Cloud.Provider != "" {
		row("Cloud", "%s, zone %s", s.Cloud.Provider, s.Cloud.Zone)
	}
	if s.Talos != "" {
		row("Versions", "Talos %s (config contract %s), Kubernetes %s", s.Talos, s.Contract, s.Kubernetes)
	}
	if s.Endpoint != "" {
		row("Endpoint", "%s", s.Endpoint)
	}
	if !s.Created.IsZero() {
		row("Created", "%s, record of %s", s.Created.Local().Format(time.DateTime), s.Updated.Local().Format(time.DateTime))
	}
	if s.Lifecycle != nil {
		row("Last run", "%s, %s, since %s (run %s)", s.Lifecycle.Type, s.Lifecycle.Status, s.Lifecycle.Started.Local().Format(time.DateTime), s.Lifecycle.RunID)
	}
	if s.LastUpgrade != "" {
		row("Last upgrade", "%s", printable(s.LastUpgrade))
	}
	if s.Failure != "" {
		row("Failure", "%s", s.Failure)
	}
	if len(s.nodes()) == 0 && s.Phase != cluster.PhaseDeleted {
		for _, n := range s.ControlPlanes {
			row("Control plane", "%s, machine API at %s", n.Name, n.Address)
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, g := range s.Groups {
		text := fmt.Sprintf("Group %s: %s", g.Group, countMembers(g).of(g.Target))
		if g.Max > 0 {
			text += fmt.Sprintf(" (min %d, max %d)", g.Min, g.Max)
		}
		fmt.Fprintf(out, "\n%s", printable(strings.Join(append([]string{text}, ailments(g, now)...), "; ")))
	}
	if len(s.Groups) > 0 {
		fmt.Fprintln(out)
	}
	f := frame{progress: workflows.Progress{Nodes: s.nodes()}, now: now, width: 1 << 12, height: 1 << 20}
	for _, l := range f.nodes(false) {
		fmt.Fprintln(out, l)
	}
	if s.Upgrade != nil {
		if err := printUpgrade(out, s.Cluster.Name, *s.Upgrade, now); err != nil {
			return err
		}
	}
	if p := s.Progress; p != nil {
		if s.Upgrade == nil && p.Parked != "" {
			fmt.Fprintf(out, "\nParked: %s\n  go on with: ichor resume %s\n", p.Parked, s.Cluster.Name)
		}
		if len(p.Remaining) > 0 {
			fmt.Fprintf(out, "\nWhat the failed run left (remove it with: ichor delete %s):\n", s.Cluster.Name)
			for _, r := range p.Remaining {
				fmt.Fprintf(out, "  %s\n", r)
			}
		}
		for _, n := range p.Notes {
			fmt.Fprintf(out, "\nNote: %s\n", n)
		}
	}
	if len(s.Unknown) > 0 {
		fmt.Fprintln(out, "\nNot known:")
	}
	for _, u := range s.Unknown {
		fmt.Fprintf(out, "  %s\n", u)
	}
	return nil
}

func newList(a *app) *cobra.Command {
	c := &cobra.Command{Use: "list", Short: "List the clusters of the store", Args: cobra.NoArgs}
	all := c.Flags().Bool("all", false, "deleted clusters too")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		st, err := a.openStore(cmd.Context())
		if err != nil {
			return err
		}
		defer func() { _ = st.Close() }() // nothing is buffered
		records, err := st.Records(cmd.Context())
		if err != nil {
			return err
		}
		type item struct {
			cluster.Ref
			Phase   cluster.Phase `json:"phase,omitempty"`
			Updated time.Time     `json:"updated,omitzero"`
			Problem string        `json:"problem,omitempty"`
		}
		items := []item{}
		for _, r := range records {
			if r.Phase == cluster.PhaseDeleted && !*all {
				continue
			}
			i := item{Ref: r.Ref, Phase: r.Phase, Updated: r.UpdatedAt}
			if r.Err != nil {
				i.Problem = r.Err.Error()
			}
			items = append(items, i)
		}
		if a.cfg.Output == outputJSON {
			return a.printJSON(items)
		}
		if len(items) == 0 {
			fmt.Fprintln(a.out, "No clusters.")
			return nil
		}
		w := tabwriter.NewWriter(a.out, 0, 4, 2, ' ', 0)
		fmt.Fprintln(w, "NAME\tPHASE\tUPDATED\tUID\tPROBLEM")
		for _, i := range items {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", i.Name, i.Phase, i.Updated.Local().Format(time.DateTime), i.UID, i.Problem)
		}
		return w.Flush()
	}
	return c
}

// printLine prints one line of a stream of JSON.
func (a *app) printLine(v any) error {
	b, err := json.Marshal(v)
	if err == nil {
		_, err = fmt.Fprintln(a.out, string(b))
	}
	return err
}

func isTerminal(f interface{ Fd() uintptr }) bool { return term.IsTerminal(int(f.Fd())) }
