package peerstalos

import (
	"fmt"
	"testing"

	"github.com/ichor-project/ichor/testsuite/devcloud/guest"
	"github.com/ichor-project/ichor/testsuite/devcloud/talosnode/nodetest"
)

// TestHealth runs talosctl's own checks, from the client's side, against nodes
// with a real Kubernetes.
func TestHealth(t *testing.T) {
	l := withKubernetes(t, 60)
	p := nodetest.NewPKI(t, "v1.13")
	image := func(s *guest.Server) { s.Image.TalosVersion = "v1.13.5" }

	cp := l.Server("demo-cp-0", nil, image)
	endpoint := fmt.Sprintf("cluster: {controlPlane: {endpoint: 'https://%s:6443'}}", cp.Loopback)
	cp.UserData = p.ControlPlane(endpoint)
	w := l.Server("demo-w-0", p.Worker(endpoint), image)

	l.Boot(cp)
	l.Boot(w)

	j := newJudge(t, p, cp)
	j.says([]string{"-n", cp.Loopback.String(), "bootstrap"})

	out, err := j.try("-n", cp.Loopback.String(), "health", "--server=false", "--wait-timeout", "50s",
		"--control-plane-nodes", cp.Private[0].String(), "--worker-nodes", w.Private[0].String())
	if err != nil {
		t.Errorf("talosctl health: %v\n%s", err, out)
	}

	t.Log(out)
}
