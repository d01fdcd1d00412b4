package snapshot

import (
	"context"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ichor-project/ichor/grpcprovider/provider"
	"github.com/ichor-project/ichor/workflows"
)

// Every field of a member that is shown, or found by, makes it another one.
func TestSameMemberSeesEveryField(t *testing.T) {
	// What nobody is shown: who asked for a place, what it replaced or replaces, and
	// what the entity knows besides.
	unseen := map[string]bool{"For": true, "ReplaceFailed": true, "Origin": true, "Replaces": true, "Lease": true, "Group": true, "Role": true, "Since": true, "CloudState": true, "Address": true, "Private": true}
	var try func(v reflect.Value, of workflows.GroupMember, changed func() workflows.GroupMember)
	try = func(v reflect.Value, of workflows.GroupMember, changed func() workflows.GroupMember) {
		for i := range v.NumField() {
			f, name := v.Field(i), v.Type().Field(i).Name
			if v.Type().Field(i).Anonymous {
				try(f, of, changed)
				continue
			}
			before := reflect.New(f.Type()).Elem()
			before.Set(f)
			switch f.Kind() {
			case reflect.String:
				f.SetString("another")
			case reflect.Bool:
				f.SetBool(!f.Bool())
			case reflect.Int:
				f.SetInt(f.Int() + 1)
			case reflect.Slice:
				f.Set(reflect.Append(f, reflect.ValueOf("another")))
			case reflect.Pointer:
				f.Set(reflect.New(f.Type().Elem()))
			case reflect.Struct:
				f.Set(reflect.ValueOf(time.Unix(1, 0)))
			default:
				t.Fatalf("%s is a %s, which this test knows nothing of", name, f.Kind())
			}
			if same := sameMember(of, changed()); same != unseen[name] {
				t.Errorf("members that differ in %s: same is %t", name, same)
			}
			f.Set(before)
		}
	}
	of := workflows.GroupMember{Instance: "ichor://demo/worker/r-0", Aliases: []string{"a"}, Failure: &workflows.Failure{Kind: "Quota"}}
	m := of
	try(reflect.ValueOf(&m).Elem(), of, func() workflows.GroupMember { return m })
	if !sameMember(of, of) {
		t.Error("a member is not the same as itself")
	}
}

// Showing again what looks the same is showing it: instances, names and aliases
// are found, and requests go on from there.
func TestWhatLooksTheSameIsShownAnew(t *testing.T) {
	w := newWorld()
	e := w.add(worker, 0, 9, 3)
	e.advance()
	e.advance()
	s := w.start(t)
	before, _ := s.Group(group)
	w.lock(func() { e.lengths[0]++; e.gen += 5 })
	if err := s.Refresh(context.Background()); err != nil {
		t.Fatal(err)
	}
	after, _ := s.Group(group)
	if after.Generation != before.Generation+5 {
		t.Errorf("generation %d after %d and five changes", after.Generation, before.Generation)
	}
	if diff := cmp.Diff(before.Instances, after.Instances); diff != "" {
		t.Errorf("nothing changed, but instances did:\n%s", diff)
	}
	if err := s.IncreaseSize(context.Background(), group, 2); err != nil {
		t.Fatal(err)
	}
	if g, _ := s.Group(group); g.Target != 5 || len(g.Instances) != 5 {
		t.Errorf("target %d with %d instances, want 5", g.Target, len(g.Instances))
	}
	if len(after.Instances) != 3 || after.Target != 3 {
		t.Error("what was published earlier has changed")
	}
	for _, i := range after.Instances {
		if id, ok := s.GroupForNode(provider.NodeRef{ProviderID: i.ID}); !ok || id != group {
			t.Errorf("%s is of %q", i.ID, id)
		}
	}
}

// A deadline that has passed is seen although no member has changed.
func TestADeadlineIsSeenInWhatIsTheSame(t *testing.T) {
	w := newWorld()
	e := w.add(worker, 0, 9, 1)
	s := w.start(t)
	if got := lines(t, s, group); got[0] != "ichor://demo/worker/start-0 creating" {
		t.Fatal(got)
	}
	w.lock(func() { w.now = w.now.Add(15 * time.Minute); e.lengths[0]++ })
	if err := s.Refresh(context.Background()); err != nil {
		t.Fatal(err)
	}
	if got := lines(t, s, group); got[0] != "ichor://demo/worker/start-0 creating other/"+codeNotJoined {
		t.Error(got)
	}
}
