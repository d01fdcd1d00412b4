package talos_test

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
	"github.com/ichor-project/ichor/internal/talos"
	"github.com/ichor-project/ichor/testsuite/devcloud/guest"
	"github.com/ichor-project/ichor/testsuite/devcloud/talosnode/nodetest"
)

func bundle(t *testing.T, contract string) secrets.Value {
	t.Helper()
	b, err := talos.NewBundle(contract, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// render makes the config of a node in the emulated cloud's private network.
func render(t *testing.T, b secrets.Value, version, name string, change ...func(*talos.RenderRequest)) secrets.Value {
	t.Helper()
	req := talos.RenderRequest{
		Bundle: b, Cluster: cluster.Ref{Name: "demo"}, Role: cluster.RoleControlPlane, Group: cluster.ControlPlaneGroup, NodeName: name,
		Spec: cluster.Spec{
			Talos: cluster.Talos{Version: version}, Kubernetes: cluster.Kubernetes{Version: "v1.36.3"},
			Network: cluster.Network{CIDR: "10.11.0.0/24", AdminCIDRs: []string{"127.0.0.0/8"}},
		},
		Endpoint: "https://127.0.0.1:6443",
	}
	for _, c := range change {
		c(&req)
	}
	r, err := talos.Render(req)
	if err != nil {
		t.Fatal(err)
	}
	return r.UserData
}

func image(version string) func(*guest.Server) {
	return func(s *guest.Server) { s.Image.TalosVersion = version }
}

// await polls until a look succeeds and holds; errors that waiting does not cure
// end the test.
func await(t *testing.T, what string, look func(context.Context) (bool, string, error)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		ok, saw, err := look(ctx)
		if ok && err == nil {
			return
		}
		if err != nil && !fault.KindOf(err).Retryable() {
			t.Fatalf("%s: %s: %v", what, fault.KindOf(err), err)
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: saw %q, %v", what, saw, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func summary(conditions []talos.Condition) (all bool, text string) {
	all = true
	var parts []string
	for _, c := range conditions {
		all = all && c.OK
		if !c.OK {
			parts = append(parts, c.Name+": "+c.Detail)
		}
	}
	return all, strings.Join(parts, "; ")
}

func dial(t *testing.T, b secrets.Value, address string) *talos.Node {
	t.Helper()
	n, err := talos.Dial(t.Context(), talos.DialOptions{Bundle: b, Address: address})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// TestControlPlane brings three control planes up from rendered user data, one
// of them through maintenance mode, and takes one down again.
func TestControlPlane(t *testing.T) {
	for _, version := range []string{"v1.13.5", "v1.14.1"} {
		t.Run(version, func(t *testing.T) {
			contract, err := talos.Contract(version)
			if err != nil {
				t.Fatal(err)
			}
			b := bundle(t, contract)
			lab := nodetest.New(t)
			ctx := t.Context()

			first := lab.Server("demo-cp-1", render(t, b, version, "demo-cp-1").Reveal(), image(version))
			lab.Boot(first)
			options := talos.DialOptions{Bundle: b, Address: first.Loopback.String()}
			await(t, "machine API", func(ctx context.Context) (bool, string, error) {
				s, err := talos.ProbeNode(ctx, options)
				return s.Version == version, s.Stage, err
			})
			if in, err := talos.InMaintenance(ctx, options.Address); err != nil || in {
				t.Errorf("in maintenance: %v, %v", in, err)
			}
			before, err := talos.ProbeEtcd(ctx, options)
			if err != nil || before.Running {
				t.Errorf("etcd before bootstrap: %+v, %v", before, err)
			}

			var outcome talos.BootstrapOutcome
			await(t, "bootstrap", func(ctx context.Context) (bool, string, error) {
				n, err := talos.Dial(ctx, options)
				if err != nil {
					return false, "", err
				}
				outcome, err = n.Bootstrap(ctx)
				if closeErr := n.Close(); closeErr != nil {
					t.Error(closeErr)
				}
				return err == nil, string(outcome), err
			})
			if outcome != talos.BootstrapDone {
				t.Errorf("first bootstrap: %s", outcome)
			}
			etcd := func(wanted int) func(context.Context) (bool, string, error) {
				return func(ctx context.Context) (bool, string, error) {
					s, err := talos.ProbeEtcd(ctx, options)
					ok, text := summary(s.Conditions(wanted))
					return ok, text, err
				}
			}
			await(t, "etcd with one member", etcd(1))
			n := dial(t, b, options.Address)
			if again, err := n.Bootstrap(ctx); err != nil || again != talos.BootstrapAlready {
				t.Errorf("second bootstrap: %s, %v", again, err)
			}

			second := lab.Server("demo-cp-2", render(t, b, version, "demo-cp-2").Reveal(), image(version))
			lab.Boot(second)
			third := lab.Server("demo-cp-3", nil, image(version))
			lab.Boot(third)
			await(t, "maintenance mode", func(ctx context.Context) (bool, string, error) {
				in, err := talos.InMaintenance(ctx, third.Loopback.String())
				return in, "", err
			})
			state, err := talos.ProbeNode(ctx, talos.DialOptions{Bundle: b, Address: third.Loopback.String()})
			if err != nil || !state.Maintenance {
				t.Errorf("probe in maintenance mode: %+v, %v", state, err)
			}
			if _, err := talos.Dial(ctx, talos.DialOptions{Bundle: b, Address: third.Loopback.String()}); fault.KindOf(err) != fault.NotYet {
				t.Errorf("dial in maintenance mode: %v", err)
			}
			if err := talos.ApplyMaintenance(ctx, third.Loopback.String(), secrets.NewValue([]byte("machine:\n  token: [s3cr3t\n"))); fault.KindOf(err) != fault.Invalid || strings.Contains(err.Error(), "s3cr3t") {
				t.Errorf("a broken config: %s: %v", fault.KindOf(err), err)
			}
			if err := talos.ApplyMaintenance(ctx, third.Loopback.String(), render(t, b, version, "demo-cp-3")); err != nil && fault.KindOf(err) != fault.Unavailable {
				t.Fatal(err)
			}
			await(t, "three voters", etcd(3))
			if err := talos.ApplyMaintenance(ctx, third.Loopback.String(), render(t, b, version, "demo-cp-3")); fault.KindOf(err) != fault.Conflict {
				t.Errorf("apply to a running node: %v", err)
			}

			seen, err := talos.ProbeEtcd(ctx, options)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{"demo-cp-1", "demo-cp-2", "demo-cp-3"}, seen.Voters()); diff != "" {
				t.Error(diff)
			}
			if seen.Leader() == "" {
				t.Error("no leader")
			}
			await(t, "machine ready", func(ctx context.Context) (bool, string, error) {
				s, err := talos.ProbeNode(ctx, options)
				ok, text := summary(s.Conditions())
				return ok, text, err
			})
			if err := n.Apply(ctx, render(t, b, version, "demo-cp-1"), false); err != nil {
				t.Errorf("the same config again: %v", err)
			}

			leaving := dial(t, b, second.Loopback.String())
			if err := leaving.EtcdLeave(ctx); err != nil {
				t.Fatal(err)
			}
			if err := leaving.Reset(ctx); err != nil {
				t.Fatal(err)
			}
			await(t, "the reset node falls silent", func(ctx context.Context) (bool, string, error) {
				_, err := talos.ProbeNode(ctx, talos.DialOptions{Bundle: b, Address: second.Loopback.String()})
				return fault.Is(err, fault.Unavailable), "", nil
			})
			// Between leaving and power off the node may have joined once more;
			// such a member is dead now and a peer removes it.
			members, err := n.EtcdMembers(ctx)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range members {
				if m.Hostname != "demo-cp-2" {
					continue
				}
				if err := n.EtcdRemove(ctx, m.ID); err != nil {
					t.Fatal(err)
				}
			}
			await(t, "two voters", etcd(2))
			if err := n.EtcdRemove(ctx, 4711); fault.KindOf(err) != fault.NotFound {
				t.Errorf("removal of an absent member: %s: %v", fault.KindOf(err), err)
			}
		})
	}
}

// TestWhoAnswers tells apart whom a dial may meet.
func TestWhoAnswers(t *testing.T) {
	const version = "v1.14.1"
	b, other := bundle(t, "v1.14"), bundle(t, "v1.14")
	lab := nodetest.New(t)
	s := lab.Server("demo-cp-1", render(t, b, version, "demo-cp-1").Reveal(), image(version))
	lab.Boot(s)
	await(t, "machine API", func(ctx context.Context) (bool, string, error) {
		state, err := talos.ProbeNode(ctx, talos.DialOptions{Bundle: b, Address: s.Loopback.String()})
		return state.Version != "", "", err
	})
	_, err := talos.Dial(t.Context(), talos.DialOptions{Bundle: other, Address: s.Loopback.String()})
	if fault.KindOf(err) != fault.Unauthorized || !strings.Contains(err.Error(), "another cluster's certificate") {
		t.Errorf("a foreign cluster: %s: %v", fault.KindOf(err), err)
	}

	quiet, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := quiet.Addr().String()
	if err := quiet.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = talos.ProbeNode(t.Context(), talos.DialOptions{Bundle: b, Address: address})
	if fault.KindOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "adminCIDRs") {
		t.Errorf("nobody listens: %s: %v", fault.KindOf(err), err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := talos.InMaintenance(ctx, address); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("cancelled: %s: %v", fault.KindOf(err), err)
	}
	if _, err := talos.Dial(t.Context(), talos.DialOptions{Address: address}); fault.KindOf(err) != fault.Internal {
		t.Errorf("no bundle: %v", err)
	}
}

// TestWorker checks what of the config reaches a worker's kubelet.
func TestWorker(t *testing.T) {
	for _, version := range []string{"v1.13.5", "v1.14.1"} {
		contract, err := talos.Contract(version)
		if err != nil {
			t.Fatal(err)
		}
		b := bundle(t, contract)
		lab := nodetest.New(t)
		// A worker's certificate comes from the trustd of a control plane.
		lab.Boot(lab.Server("demo-cp-1", render(t, b, version, "demo-cp-1").Reveal(), image(version)))
		data := render(t, b, version, "demo-w-1", func(r *talos.RenderRequest) {
			r.Role, r.Group = cluster.RoleWorker, "w"
			r.Spec.NodeGroups = []cluster.NodeGroup{{
				Name: "w", Labels: map[string]string{"example.com/pool": "w"},
				Taints: []cluster.Taint{{Key: "example.com/batch", Value: "yes", Effect: "NoSchedule"}},
			}}
		})
		s := lab.Server("demo-w-1", data.Reveal(), image(version))
		lab.Boot(s)
		var got guest.Kubelet
		await(t, "kubelet", func(context.Context) (bool, string, error) {
			k, ok := lab.Kube.Kubelet("demo-w-1")
			got = k
			return ok, "", nil
		})
		if got.Labels["example.com/pool"] != "w" {
			t.Errorf("%s: labels %v", version, got.Labels)
		}
		if got.InternalIP != s.Private[0] {
			t.Errorf("%s: node IP %s, not the private %s", version, got.InternalIP, s.Private[0])
		}
		await(t, "machine API", func(ctx context.Context) (bool, string, error) {
			state, err := talos.ProbeNode(ctx, talos.DialOptions{Bundle: b, Address: s.Loopback.String()})
			return state.Version == version, "", err
		})
		n := dial(t, b, s.Loopback.String())
		if _, err := n.Bootstrap(t.Context()); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%s: bootstrap of a worker: %v", version, err)
		}
	}
}
