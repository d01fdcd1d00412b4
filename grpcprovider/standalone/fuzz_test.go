package standalone

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/cluster"
)

// FuzzDecode feeds anything to the decoder and the check. Neither panics, what
// they complain about has a place, and what they accept makes inputs that are
// small, complete and the same each time. Found inputs are kept in
// testdata/fuzz.
func FuzzDecode(f *testing.F) {
	for _, name := range []string{"groups.yaml", "other.yaml"} {
		data, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(minimal))
	f.Add([]byte(`{"cluster": "a", "nodeGroups": [{"min": 1e9, "tag": "="}], "prices": {"a": -0.0, "b": 1e400}}`))
	f.Add([]byte("nodeGroups: &a [*a]\nprices: {a: .nan}\n"))
	f.Add([]byte("a: &a [x,x,x]\nb: &b [*a,*a,*a]\nnodeGroups: [*b,*b,*b]\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, pos, err := Decode(data)
		var problems cluster.Problems
		if errors.As(err, &problems) {
			for _, p := range problems {
				if p.Reason == "" {
					t.Errorf("a problem without a reason: %+v", p)
				}
			}
			return
		}
		if err != nil {
			t.Fatalf("an error that is no list of problems: %v", err)
		}
		s, problems := file.resolve()
		for _, p := range pos.Locate(problems) {
			if p.Field == "" || p.Reason == "" || p.Line == 0 && pos.Line(p.Field) != 0 {
				t.Errorf("a problem without a place: %+v", p)
			}
		}
		if len(problems) > 0 {
			return
		}
		userData := make([]activities.UserData, len(s.groups))
		once, errOnce := json.Marshal(s.setup(userData))
		twice, errTwice := json.Marshal(s.setup(userData))
		if errOnce != nil || errTwice != nil || string(once) != string(twice) {
			t.Fatalf("%v %v: %s differs from %s", errOnce, errTwice, once, twice)
		}
		for i, g := range s.setup(userData).Groups {
			switch {
			case g.Cluster.Name == "" || g.Cluster.UID == "" || g.Group == "" || g.Flavor == "" || g.ImageID == "" || g.Zone == "":
				t.Errorf("incomplete: %+v", g)
			case g.Min < 0 || g.Max < g.Min || g.Max > cluster.MaxGroupSize || g.Target != g.Min || g.DiskGiB < cluster.MinDiskGiB:
				t.Errorf("out of bounds: %+v", g)
			case len(s.groups[i].userData) > 20 && strings.Contains(string(once), s.groups[i].userData):
				t.Error("user data is part of the input")
			}
			for _, tag := range g.Tags {
				if cluster.ReservedTag(tag.Key) {
					t.Errorf("a reserved tag: %+v", tag)
				}
			}
		}
	})
}
