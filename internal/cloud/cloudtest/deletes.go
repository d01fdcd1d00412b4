package cloudtest

import (
	"strings"
	"testing"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/fault"
)

func testNotFound(t *testing.T, w Cloud) {
	m := create(t, w, w.Machine(owner("u1"), "m1"))
	p := w.Open(t)
	remove(t, p, m.Ref)
	_, err := p.GetMachine(t.Context(), m.Ref)
	wantKind(t, err, fault.NotFound) // whoever saw it go knows it at once
	wantAbsent(t, p, cloud.MachineRef{Owner: m.Ref.Owner, ID: m.Ref.ID})
}

func testDelete(t *testing.T, w Cloud) {
	m := create(t, w, w.Machine(owner("u1"), "m1"))
	keep := create(t, w, w.Machine(owner("u1"), "m2"))
	p := w.Open(t)
	remove(t, p, m.Ref)
	wantBooks(t, w, "u1", "machine", 1)
	for range 2 { // absent is gone, every time
		if gone, err := p.DeleteMachine(t.Context(), m.Ref); !gone || err != nil {
			t.Errorf("delete of what is gone = %t, %v", gone, err)
		}
	}
	// By machine id alone, as after an unanswered create.
	remove(t, p, cloud.MachineRef{Owner: keep.Ref.Owner, ID: keep.Ref.ID})
	wantBooks(t, w, "u1", "machine", 0)
}

func testDeleteBusy(t *testing.T, w Cloud) {
	m := create(t, w, w.Machine(owner("u1"), "m1"))
	p := w.Open(t)
	runs(t, p, m.Ref)
	w.Inject(t, Fault{On: DeleteMachine, Effect: Busy})
	gone, err := p.DeleteMachine(t.Context(), m.Ref)
	if gone {
		t.Error("a refused deletion is said to be done")
	}
	wantKind(t, err, fault.Conflict)
	remove(t, w.Open(t), m.Ref)
	wantBooks(t, w, "u1", "machine", 0)
}

// runs waits until a machine runs: a delete that finds it then is the one that the
// fault is for.
func runs(t *testing.T, p cloud.Provider, ref cloud.MachineRef) {
	t.Helper()
	until(t, "the machine runs", func() (bool, error) {
		now, err := p.GetMachine(t.Context(), ref)
		return now.State == cloud.MachineRunning, err
	})
}

func testDeleteLost(t *testing.T, w Cloud) {
	for _, e := range []Effect{LostReply, Dropped, ServerError, Maintenance} {
		m := create(t, w, w.Machine(owner("u1"), "m-"+strings.ReplaceAll(string(e), " ", "-")))
		p := w.Open(t)
		runs(t, p, m.Ref)
		w.Inject(t, Fault{On: DeleteMachine, Effect: e})
		gone, err := p.DeleteMachine(t.Context(), m.Ref)
		if gone || err != nil && !fault.KindOf(err).Retryable() {
			t.Errorf("%s: DeleteMachine = %t, %v of kind %s", e, gone, err, fault.KindOf(err))
		}
		remove(t, p, m.Ref)
		w.Heal()
	}
	wantBooks(t, w, "u1", "machine", 0)
}

func testDeleteForeign(t *testing.T, w Cloud) {
	foreign := create(t, w, w.Machine(owner("u2"), "m9"))
	listed(t, w, owner("u2"), 1)
	ref := cloud.MachineRef{Owner: owner("u1"), ID: "m1", Cloud: foreign.Ref.Cloud}
	p := w.Open(t)
	if gone, err := p.DeleteMachine(t.Context(), ref); gone || err == nil {
		t.Errorf("delete of a machine of another cluster = %t, %v", gone, err)
	}
	if m, err := p.GetMachine(t.Context(), ref); err == nil {
		t.Errorf("a machine of another cluster was read: %+v", m)
	}
	wantBooks(t, w, "u2", "machine", 1)
}

func testVanished(t *testing.T, w Cloud) {
	spec := w.Machine(owner("u1"), "m1")
	m := create(t, w, spec)
	w.Vanish(t, m.Ref.Cloud)
	p := w.Open(t)
	wantAbsent(t, p, m.Ref)
	if gone, err := p.DeleteMachine(t.Context(), m.Ref); !gone || err != nil {
		t.Errorf("delete of a vanished machine = %t, %v", gone, err)
	}
	if again := create(t, w, spec); again.Ref.Cloud == m.Ref.Cloud {
		t.Error("the vanished machine came back")
	}
}

// testNobodys proves that what belongs to nobody is no empty list, which would be
// absence.
func testNobodys(t *testing.T, w Cloud) {
	p := w.Open(t)
	nobody := cloud.Owner{}
	_, err := p.ListMachines(t.Context(), nobody)
	wantKind(t, err, fault.Internal)
	for _, ref := range []cloud.MachineRef{{Owner: nobody, ID: "m1"}, {Owner: owner("u1")}} {
		_, err := p.GetMachine(t.Context(), ref)
		wantKind(t, err, fault.Internal)
		gone, err := p.DeleteMachine(t.Context(), ref)
		if wantKind(t, err, fault.Internal); gone {
			t.Errorf("%+v is said to be gone", ref)
		}
	}
	if i, ok := p.(cloud.Infrastructure); ok {
		_, err := i.ListResources(t.Context(), nobody)
		wantKind(t, err, fault.Internal)
	}
	if n := w.WriteRequests(); n != 0 {
		t.Errorf("%d writes", n)
	}
}
