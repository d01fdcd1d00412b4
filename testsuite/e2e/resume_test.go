package e2e

import (
	"net/http"
	"testing"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/testsuite/stack"
)

// TestResumeReachesTheImport refuses the credentials while the image is imported: what
// parks then is neither the cluster's run nor one of its groups.
func TestResumeReachesTheImport(t *testing.T) {
	s := start(t, nil)
	s.fault(chosen.Unauthorized(chosen.Routes.Import))
	s.ichor(codeOK, nil, "provision", "--detach", "-f", s.write(s.spec("import")))
	s.until("the import is refused", func() bool {
		var faults []struct{ Fired int }
		if err := s.Cloud(t.Context(), http.MethodGet, "_devcloud/faults", nil, &faults); err != nil {
			t.Fatal(err)
		}
		return len(faults) == 1 && faults[0].Fired > 0
	})
	// The import parks a moment after the refusal. A resume that comes before it
	// parks is lost on it, so it is given until the run goes on.
	s.clearFaults()
	s.until("the run is told and goes on", func() bool {
		s.ichor(codeOK, []string{"Told "}, "resume", "import")
		return len(s.account().Kind(stack.Imports)) > 0 || len(s.account().Kind(stack.Images)) > 0
	})
	s.ichor(codeOK, []string{`Cluster "import" is ready: 2 nodes`}, "watch", "import")
	if p, ok := s.progress("import"); !ok || p.Phase != cluster.PhaseReady {
		t.Errorf("phase %q (%v)", p.Phase, ok)
	}
	s.ichor(codeOK, nil, "delete", "import")
	s.wantEmpty()
}
