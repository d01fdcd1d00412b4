package replay

import (
	"maps"
	"slices"
	"strings"
	"testing"

	enumspb "go.temporal.io/api/enums/v1"

	"github.com/ichor-project/ichor/workflows"
)

// TestEveryRequestIsRecorded demands that the histories of the phases hold the
// requests for which they were recorded: a recording that came too late for its
// phase would replay just as well.
func TestEveryRequestIsRecorded(t *testing.T) {
	const pause, resume, approve, skip, cancel = workflows.SignalPause, workflows.SignalResume, workflows.SignalApprove, workflows.SignalSkipNode, "cancel"
	want := map[string][]string{
		"asked-cancel":        {pause, resume, skip, cancel},
		"paused-cancel":       {pause, approve, skip, cancel},
		"draining-cancel":     {approve, pause, resume, cancel},
		"parked-cancel":       {approve, pause, resume, cancel},
		"between-legs-cancel": {approve, skip, pause, approve, resume, cancel},
		"reboot-cancel":       {approve, pause, resume, cancel},
		"kubernetes-cancel":   {approve, pause, resume, cancel},
	}
	// Of these the node at work is recorded, which hears of the end only, or of resume.
	nodes := map[string][]string{
		"draining-cancel-node": {cancel}, "parked-cancel-node": {resume, cancel}, "parked-skip-node": {cancel},
		"reboot-cancel-node": {cancel}, "kubernetes-cancel-node": {cancel},
	}
	maps.Copy(want, nodes)
	have := map[string][]string{}
	for _, h := range histories(t) {
		name, ok := strings.CutPrefix(h.name, "upgrading/phase-")
		if !ok {
			continue
		}
		for _, e := range h.GetEvents() {
			switch a := e.GetWorkflowExecutionUpdateAcceptedEventAttributes(); {
			case a != nil:
				have[name] = append(have[name], a.GetAcceptedRequest().GetInput().GetName())
			case e.GetEventType() == enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED:
				have[name] = append(have[name], cancel)
			case e.GetWorkflowExecutionSignaledEventAttributes().GetSignalName() == resume:
				have[name] = append(have[name], resume)
			}
		}
	}
	for name, requests := range want {
		if !slices.Equal(have[name], requests) {
			t.Errorf("phase-%s holds %q, want %q", name, have[name], requests)
		}
		delete(have, name)
	}
	for name := range have {
		t.Errorf("nobody says what phase-%s is for", name)
	}
}
