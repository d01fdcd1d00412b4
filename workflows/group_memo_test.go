package workflows

import (
	"reflect"
	"testing"
	"time"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/cluster"
)

// Every field that readers can see makes a difference: one that is added and
// forgotten in same would never be published.
func TestSameSeesEveryField(t *testing.T) {
	unseen := map[string]bool{"EventID": true, "Generation": true}
	eachField(t, func(m GroupMemo) bool { return m.same(GroupMemo{}) }, unseen)
	eachField(t, func(r InstanceRange) bool {
		return GroupMemo{Wanted: []InstanceRange{r}}.same(GroupMemo{Wanted: []InstanceRange{{}}})
	}, nil)
	eachField(t, func(i MemoInstance) bool {
		return GroupMemo{Others: []MemoInstance{i}}.same(GroupMemo{Others: []MemoInstance{{}}})
	}, nil)
	eachField(t, func(f GroupFacts) bool { return f.same(GroupFacts{}) }, nil)
	eachField(t, func(n cluster.NodeTemplate) bool {
		return GroupFacts{Template: &n}.same(GroupFacts{Template: &cluster.NodeTemplate{}})
	}, nil)
	eachField(t, func(a cluster.Autoscaling) bool {
		return GroupFacts{Autoscaling: &a}.same(GroupFacts{Autoscaling: &cluster.Autoscaling{}})
	}, nil)
}

// eachField sets one field after the other and expects a difference, unless the
// field is among unseen.
func eachField[T any](t *testing.T, same func(T) bool, unseen map[string]bool) {
	t.Helper()
	var zero T
	if !same(zero) {
		t.Errorf("%T: two zero values differ", zero)
	}
	for i := range reflect.TypeFor[T]().NumField() {
		var v T
		field := reflect.TypeFor[T]().Field(i)
		fill(t, reflect.ValueOf(&v).Elem().Field(i))
		if same(v) != unseen[field.Name] {
			t.Errorf("%T.%s: same is %v", v, field.Name, same(v))
		}
	}
}

func fill(t *testing.T, v reflect.Value) {
	t.Helper()
	switch v.Kind() {
	case reflect.String:
		v.SetString("x")
	case reflect.Int, reflect.Int64:
		v.SetInt(1)
	case reflect.Float64:
		v.SetFloat(1)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Unix(1, 0)))
			return
		}
		fill(t, v.Field(0))
	default:
		t.Fatalf("no value for %s", v.Type())
	}
}

// The template promises no more than the least of what real nodes have.
func TestLearnFrom(t *testing.T) {
	g := &group{state: GroupState{Template: &cluster.NodeTemplate{Capacity: cluster.NodeResources{MilliCPU: 4000, MemoryBytes: 8000, Pods: 110}}}}
	g.learnFrom(nil)
	if g.state.Generation != 0 {
		t.Error("nothing was learnt, but the generation grew")
	}
	g.learnFrom(&activities.Observed{Capacity: cluster.NodeResources{MilliCPU: 4000, MemoryBytes: 7000, Pods: 200}})
	g.learnFrom(&activities.Observed{Capacity: cluster.NodeResources{MilliCPU: 4000, MemoryBytes: 7500}})
	want := cluster.NodeResources{MilliCPU: 4000, MemoryBytes: 7000, Pods: 110}
	if got := g.state.Template; got.Capacity != want || !got.Observed || g.state.Generation != 1 {
		t.Errorf("template %+v, generation %d", got, g.state.Generation)
	}
}
