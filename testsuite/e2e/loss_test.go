package e2e

import (
	"testing"

	"github.com/ichor-project/ichor/internal/cluster"
)

// TestLossOfTemporal takes away Temporal's whole memory under a live cluster: the
// record in the store is enough to show the cluster, to start its groups again
// with the machines that there are, to scale them, and to delete it.
func TestLossOfTemporal(t *testing.T) {
	s := startWithoutWorker(t, nil)
	worker, err := s.StartWorker(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.ichor(codeOK, nil, "provision", "-f", s.write(s.spec("amnesia")))
	before := s.status("amnesia")

	if err := worker.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := s.StopTemporal(true); err != nil {
		t.Fatal(err)
	}
	alone := s.status("amnesia")
	if alone.Phase != cluster.PhaseReady || alone.Endpoint != before.Endpoint || len(alone.Unknown) == 0 {
		t.Errorf("status without Temporal: phase %q, endpoint %q, unknown %q", alone.Phase, alone.Endpoint, alone.Unknown)
	}

	if err := s.StartTemporal(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.StartWorker(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.dial()
	if after := s.status("amnesia"); after.Phase != cluster.PhaseReady || after.Endpoint != before.Endpoint {
		t.Errorf("status after the loss: phase %q, endpoint %q; before: %q", after.Phase, after.Endpoint, before.Endpoint)
	}
	s.wantNodes("amnesia", 2)
	file := s.write(s.spec("amnesia"))
	s.ichor(codeOK, []string{"were started again"}, "provision", "-f", file)
	s.ichor(codeOK, []string{"nothing was changed"}, "provision", "-f", file)
	s.ichor(codeOK, nil, "scale", "amnesia/general", "--to", "2", "--wait")
	s.wantNodes("amnesia", 3)
	s.ichor(codeOK, []string{`Cluster "amnesia" is deleted`, "3 machines"}, "delete", "amnesia")
	s.wantEmpty()
}

// TestWorkerOutsideAdminCIDRs locks the worker out of the machine API, the
// mistake that everybody makes once: the error says which field to look at.
func TestWorkerOutsideAdminCIDRs(t *testing.T) {
	s := start(t, map[string]string{"ICHOR_JOINED_DEADLINE": "8s"})
	spec := s.spec("outside")
	spec.Spec.Network.AdminCIDRs = []string{"198.51.100.0/24"}
	s.ichor(codeNotReady, []string{"adminCIDRs", "Unavailable", "everything that was created has been removed"}, "provision", "-f", s.write(spec))
	s.wantEmpty()
}
