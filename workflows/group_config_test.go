package workflows

import (
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// notConfig are the fields of GroupInput that sameConfig rightly leaves out: whatever a
// message says of them, the group keeps what it has. Each has a change, which must
// either be refused or have no effect.
var notConfig = map[string]struct {
	why    string
	change func(*GroupInput)
}{
	"Cluster": {"a group belongs to one cluster for good; another is refused", func(in *GroupInput) { in.Cluster.UID = "another" }},
	"Group":   {"is what the group is; another is refused", func(in *GroupInput) { in.Group = "another" }},
	"Role":    {"is what the group is; another is refused", func(in *GroupInput) { in.Role = "another" }},
	"Target":  {"is where the group begins; requests change it from then on", func(in *GroupInput) { in.Target++ }},
	"Site":    {"the account and its waits are frozen when the group begins", func(in *GroupInput) { in.Site.Account = "another" }},
	"Resumed": {"is about how this run began", func(in *GroupInput) { in.Resumed = !in.Resumed }},
	"State":   {"travels from run to run only", func(in *GroupInput) { in.State = &GroupState{Target: 7} }},
}

// configured is an input in which every field that is configuration has a value, down
// to the last one.
func configured(t *testing.T) GroupInput {
	t.Helper()
	var in GroupInput
	for v, i := reflect.ValueOf(&in).Elem(), 0; i < v.NumField(); i++ {
		if _, ok := notConfig[v.Type().Field(i).Name]; !ok {
			fillIn(t, v.Field(i))
		}
	}
	return in
}

func fillIn(t *testing.T, v reflect.Value) {
	t.Helper()
	switch {
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			fillIn(t, v.Field(i))
		}
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fillIn(t, v.Elem())
	case v.Kind() == reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fillIn(t, v.Index(0))
	default:
		another(t, v)
	}
}

// another gives a plain value another one.
func another(t *testing.T, v reflect.Value) {
	t.Helper()
	switch {
	case !v.CanSet():
		t.Fatalf("a %s that cannot be set: say here how two of its struct differ", v.Type())
	case v.Kind() == reflect.String:
		v.SetString(v.String() + "x")
	case v.Kind() == reflect.Bool:
		v.SetBool(!v.Bool())
	case v.CanInt():
		v.SetInt(v.Int() + 1)
	case v.CanUint():
		v.SetUint(v.Uint() + 1)
	case v.CanFloat():
		v.SetFloat(v.Float() + 0.25)
	default:
		t.Fatalf("a %s: say here how two of them differ", v.Type())
	}
}

// change is one difference between two inputs.
type change struct {
	field string
	// make makes it in the field's place in an input.
	make func(t *testing.T, in reflect.Value)
}

// changesOf are all differences that there can be in a value, which at finds in an
// input.
func changesOf(v reflect.Value, field string, at func(reflect.Value) reflect.Value) []change {
	here := func(how string, do func(t *testing.T, v reflect.Value)) change {
		return change{field + how, func(t *testing.T, in reflect.Value) { do(t, at(in)) }}
	}
	zero := func(_ *testing.T, v reflect.Value) { v.SetZero() }
	switch v.Kind() {
	case reflect.Struct:
		var out []change
		for i := range v.NumField() {
			inner := func(in reflect.Value) reflect.Value { return at(in).Field(i) }
			out = append(out, changesOf(v.Field(i), field+"."+v.Type().Field(i).Name, inner)...)
		}
		return out
	case reflect.Pointer:
		inner := func(in reflect.Value) reflect.Value { return at(in).Elem() }
		return append(changesOf(v.Elem(), field, inner), here(" left out", zero))
	case reflect.Slice:
		inner := func(in reflect.Value) reflect.Value { return at(in).Index(0) }
		more := func(_ *testing.T, v reflect.Value) { v.Set(reflect.Append(v, v.Index(0))) }
		return append(changesOf(v.Index(0), field+"[0]", inner), here(" left out", zero), here(" with one more", more))
	}
	return []change{here("", another)}
}

// A field that sameConfig forgets is one that nobody can change: the group says that
// it is configured so already. Whoever adds a field decides here or there.
func TestSameConfigKnowsEveryField(t *testing.T) {
	base := reflect.ValueOf(configured(t))
	if !sameConfig(configured(t), configured(t)) {
		t.Fatal("two equal inputs are not the same")
	}
	for i := range base.NumField() {
		name := base.Type().Field(i).Name
		if _, ok := notConfig[name]; ok {
			continue
		}
		for _, c := range changesOf(base.Field(i), name, func(in reflect.Value) reflect.Value { return in.Field(i) }) {
			in := configured(t)
			c.make(t, reflect.ValueOf(&in).Elem())
			if cmp.Equal(configured(t), in) {
				t.Errorf("%s: nothing was changed", c.field)
			}
			if sameConfig(configured(t), in) || sameConfig(in, configured(t)) {
				t.Errorf("%s: sameConfig does not see another one, so a group cannot be told; if it is not configuration, add it to notConfig", c.field)
			}
		}
	}
}

func TestWhatIsNotConfigStays(t *testing.T) {
	for name, except := range notConfig {
		if _, ok := reflect.TypeFor[GroupInput]().FieldByName(name); !ok || except.why == "" {
			t.Errorf("%s is no field of GroupInput, or nobody says why it is not configuration", name)
			continue
		}
		have := configured(t)
		have.Cluster.Name, have.Cluster.UID = "demo", "u"
		g := &group{in: have}
		in := have
		except.change(&in)
		field := func(of GroupInput) any { return reflect.ValueOf(of).FieldByName(name).Interface() }
		if cmp.Equal(field(have), field(in)) {
			t.Errorf("%s: nothing was changed", name)
		}
		if !sameConfig(have, in) {
			t.Errorf("%s: sameConfig compares it, so it is configuration", name)
		}
		if g.refuseConfig(in) != nil {
			continue
		}
		in.DiskGiB++
		if !g.reconfigure(in) {
			t.Errorf("%s: the group was not configured", name)
		}
		if diff := cmp.Diff(field(have), field(g.in)); diff != "" {
			t.Errorf("%s: a message changed it (-before +after):\n%s", name, diff)
		}
	}
}
