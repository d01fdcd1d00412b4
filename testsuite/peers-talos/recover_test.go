package peerstalos

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"testing"

	"github.com/ichor-project/ichor/testsuite/devcloud/guest"
	"github.com/ichor-project/ichor/testsuite/devcloud/talosnode/nodetest"
)

// TestRecover lets talosctl keep a snapshot of etcd, destroys the only control
// plane with all its data, and lets talosctl recover on a new machine. The
// worker's kubelet ran all the time and does not register anew, so that its node
// can only come from the snapshot.
func TestRecover(t *testing.T) {
	l := withKubernetes(t, 60)
	p := nodetest.NewPKI(t, "v1.14")

	lost := l.Server("demo-cp-0", nil)
	endpoint := fmt.Sprintf("apiVersion: v1alpha1\nkind: KubeClusterConfig\nendpoint: 'https://%s:6443'", lost.Loopback)
	lost.UserData = p.ControlPlane(endpoint)
	w := l.Server("demo-w-0", p.Worker(endpoint))

	machine := l.Boot(lost)
	l.Boot(w)

	j := newJudge(t, p, lost)
	at, worker, snapshot := lost.Loopback.String(), w.Loopback.String(), filepath.Join(t.TempDir(), "etcd.db")

	j.says([]string{"-n", at, "bootstrap"})
	j.says([]string{"-n", at, "get", "machinestatus"}, "running", "true")
	j.says([]string{"-n", worker, "get", "machinestatus"}, "running", "true")
	j.says([]string{"-n", at, "etcd", "snapshot", snapshot}, "etcd snapshot saved")

	machine.Destroy()

	// A new machine that took over the address, as behind a floating one.
	found := l.Server("demo-cp-1", p.ControlPlane(endpoint), func(s *guest.Server) {
		s.Loopback, s.Private = lost.Loopback, []netip.Addr{lost.Private[0]}
	})
	l.Boot(found)

	j.says([]string{"-n", at, "bootstrap", "--recover-from", snapshot}, "recovering from snapshot")
	j.says([]string{"-n", at, "etcd", "members"}, "demo-cp-1")
	j.says([]string{"-n", at, "get", "machinestatus"}, "running", "true")

	// The lost machine's node is back as well, with the addresses of the new one.
	j.refuses([]string{
		"-n", at, "health", "--server=false", "--wait-timeout", "15s",
		"--control-plane-nodes", found.Private[0].String(), "--worker-nodes", w.Private[0].String(),
	}, "unexpected nodes with IPs")
	j.says([]string{"-n", worker, "get", "machinestatus"}, "running", "true")
}
