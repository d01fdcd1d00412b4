package standalone

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/catalog"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
	"github.com/ichor-project/ichor/internal/secrets/store"
	"github.com/ichor-project/ichor/workflows"
)

// Store is the part of the encrypted store that is needed.
type Store interface {
	// PutBody stores a document of a cluster under its digest.
	PutBody(ctx context.Context, clusterName string, body secrets.Value) (ref, sha256 string, err error)
	// Record returns the record of a cluster that Ichor made; NotFound when
	// there is none.
	Record(ctx context.Context, name string) (cluster.Record, store.Revision, error)
}

// Setup is what a file asks for. It holds nothing secret.
type Setup struct {
	Cluster cluster.Ref
	// Groups are in the order of the file.
	Groups []workflows.GroupInput
	// Prices per hour by flavor; nil when none are given.
	Prices map[string]float64
	// Notes are worth a line in the log.
	Notes []string
}

// Load reads a file and the user data that it names, checks everything, puts
// user data into the store and returns the entities' input. Reading the same
// file again gives the same result and writes the same objects. Everything that
// is wrong with the file comes at once, as cluster.Problems with lines. Other
// errors are faults: Conflict when Ichor made a cluster of this name, and those
// of the store.
func Load(ctx context.Context, path string, st Store) (Setup, error) {
	data, err := readFile(path, cluster.MaxDocument)
	if err != nil {
		return Setup{}, fault.Wrap(fault.Invalid, "read the file of node groups", err)
	}
	f, pos, err := Decode(data)
	if err != nil {
		return Setup{}, err
	}
	s, problems := f.resolve()
	bodies := s.bodies(filepath.Dir(path), &problems)
	if err := pos.Locate(problems).Err(); err != nil {
		return Setup{}, err
	}
	if err := unclaimed(ctx, st, s.name); err != nil {
		return Setup{}, err
	}
	refs := make([]activities.UserData, len(bodies))
	for i, body := range bodies {
		ref, sum, err := st.PutBody(ctx, s.name, secrets.NewValue(body))
		if err != nil {
			return Setup{}, fmt.Errorf("store %s.userData: %w", s.groups[i].field, err)
		}
		refs[i] = activities.UserData{Ref: ref, SHA256: sum}
	}
	return s.setup(refs), nil
}

// unclaimed refuses the name of a cluster that Ichor made: the two would share
// workflow ids, and deleting the cluster would delete the groups' user data.
func unclaimed(ctx context.Context, st Store, name string) error {
	rec, _, err := st.Record(ctx, name)
	switch {
	case fault.Is(err, fault.NotFound):
		return nil
	case err != nil:
		return err
	case rec.Phase == cluster.PhaseDeleted:
		return nil
	}
	return fault.New(fault.Conflict, "take cluster "+name, "Ichor made a cluster of this name (uid %s); serve it with --cluster %s, or give this one another name", rec.Ref.UID, name)
}

// bodies reads the user data of all groups.
func (s settings) bodies(base string, p *cluster.Problems) [][]byte {
	out := make([][]byte, len(s.groups))
	known, _ := catalog.Named(s.cloud)
	most := known.UserDataMax // as it is: nobody compresses what others wrote
	for i, g := range s.groups {
		at := g.field + ".userData"
		if p.Has(at) {
			continue
		}
		body := []byte(g.userData)
		if name, ok := strings.CutPrefix(g.userData, "@"); ok {
			if !filepath.IsAbs(name) {
				name = filepath.Join(base, name)
			}
			var err error
			if body, err = readFile(name, cluster.MaxDocument); err != nil {
				p.Add(at, "cannot be read: %v", err)
				continue
			}
		}
		switch {
		case strings.TrimSpace(string(body)) == "":
			p.Add(at, "is empty")
		case most > 0 && len(body) > most:
			p.Add(at, "has %d bytes, and %s takes %d", len(body), s.cloud, most)
		}
		out[i] = body
	}
	return out
}

// readFile never waits for the other end of a pipe and never reads more than
// most bytes.
func readFile(name string, most int64) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", name)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	if int64(len(data)) > most {
		return nil, fmt.Errorf("%s has more than %d bytes", name, most)
	}
	return data, nil
}

// uid identifies the cluster for good. It has no memory to keep one in, so it
// follows from what the file must not change: the account's reference, the
// cloud and the name. Its form is that of a UUID, version 8 (RFC 9562).
func uid(cloud, credentials, name string) string {
	b := sha256.Sum256([]byte("ichor standalone\n" + cloud + "\n" + credentials + "\n" + name))
	b[6] = b[6]&0x0f | 0x80
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:16])
}

func (s settings) setup(userData []activities.UserData) Setup {
	ref := cluster.Ref{Name: s.name, UID: uid(s.cloud, s.credentials, s.name)}
	out := Setup{Cluster: ref, Prices: s.prices, Notes: s.notes}
	kube := activities.KubeTarget{Ref: ref}
	switch s.kubeconfig {
	case KubeconfigNone:
		kube.None = true
		out.Notes = append(out.Notes, "kubeconfig is none: a machine that runs counts as joined, none is replaced, and no Node object is deleted")
	case KubeconfigInCluster:
		kube.Kubeconfig = activities.InCluster
	default:
		kube.Kubeconfig = s.kubeconfig
	}
	for i, g := range s.groups {
		out.Groups = append(out.Groups, workflows.GroupInput{
			Cluster: ref, Group: g.Name, Role: cluster.RoleWorker,
			Cloud:  cluster.Cloud{Provider: s.cloud, Zone: g.Zone, Credentials: s.credentials},
			Zone:   g.Zone,
			Flavor: g.Flavor, DiskGiB: g.DiskGiB, ImageID: g.Image,
			Subnets: g.subnets, Networks: g.Networks, Tags: sorted(g.Tags), Params: sorted(g.params),
			Spread: g.AntiAffinity == nil || *g.AntiAffinity,
			Target: g.Min, Min: g.Min, Max: g.Max,
			Alternatives: g.Alternatives, Autoscaling: g.Autoscaling,
			Standalone: &workflows.Standalone{
				Kube: kube, UserData: &userData[i], AdoptTag: g.adopt, AdoptAlso: g.also, Labels: sorted(g.Labels), Taints: g.Taints,
			},
		})
	}
	return out
}

func sorted(m map[string]string) []cluster.Tag {
	var out []cluster.Tag
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, cluster.Tag{Key: k, Value: m[k]})
	}
	return out
}
