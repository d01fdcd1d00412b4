package talosnode

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/siderolabs/talos/pkg/machinery/api/cluster"
)

// clusterAPI serves cluster.ClusterService: the checks of `talosctl health`,
// made by a control plane node.
type clusterAPI struct {
	cluster.UnimplementedClusterServiceServer

	s *session
}

// healthCheck is one line of the report.
type healthCheck struct {
	name string
	ok   func(config *nodeConfig, nodes []*advert) error
}

// HealthCheck implements the cluster service. It looks at the nodes that the
// request names, else at those of discovery, and at what they know of
// themselves.
func (a *clusterAPI) HealthCheck(in *cluster.HealthCheckRequest, out grpc.ServerStreamingServer[cluster.HealthCheckProgress]) error {
	config, err := a.s.controlPlane("health check")
	if err != nil {
		return err
	}

	ctx := out.Context()

	if wait := in.GetWaitTimeout().AsDuration(); wait > 0 {
		var cancel context.CancelFunc

		ctx, cancel = context.WithTimeout(ctx, wait)
		defer cancel()
	}

	wanted := slices.Concat(in.GetClusterInfo().GetControlPlaneNodes(), in.GetClusterInfo().GetWorkerNodes())

	for _, check := range a.s.healthChecks() {
		say := func(state string) error {
			return out.Send(&cluster.HealthCheckProgress{Message: "waiting for " + check.name + ": " + state})
		}

		if err := say("..."); err != nil {
			return err
		}

		if err := a.s.await(ctx, config, wanted, check, say); err != nil {
			return err
		}
	}

	return nil
}

// await polls a check and reports each new reason.
func (s *session) await(ctx context.Context, config *nodeConfig, wanted []string, check healthCheck, say func(string) error) error {
	last := ""

	for {
		nodes, err := s.healthNodes(config, wanted)
		if err == nil {
			err = check.ok(config, nodes)
		}

		if err == nil {
			return say("OK")
		}

		if reason := err.Error(); reason != last {
			last = reason

			if err := say(reason); err != nil {
				return err
			}
		}

		select {
		case <-time.After(max(s.scale(time.Second), 50*time.Millisecond)):
		case <-ctx.Done():
			return status.Errorf(codes.DeadlineExceeded, "healthcheck error: %s: %s", check.name, last)
		case <-s.ctx.Done():
			return status.FromContextError(s.ctx.Err()).Err()
		}
	}
}

// healthNodes resolves the nodes to look at; an address that nobody has is an
// error.
func (s *session) healthNodes(config *nodeConfig, wanted []string) ([]*advert, error) {
	all := s.members(config)
	if own := s.advert.Load(); own != nil {
		all = append(all, own)
	}

	if len(wanted) == 0 {
		return all, nil
	}

	var out []*advert

	for _, name := range wanted {
		address, err := netip.ParseAddr(name)

		i := slices.IndexFunc(all, func(p *advert) bool {
			return p.hostname == name || err == nil && slices.Contains(p.addresses, address)
		})
		if i < 0 {
			return nil, fmt.Errorf("node %q does not answer", name)
		}

		out = append(out, all[i])
	}

	return out, nil
}

func (s *session) healthChecks() []healthCheck {
	return []healthCheck{
		{"etcd to be healthy", func(_ *nodeConfig, nodes []*advert) error {
			return each(nodes, func(p *advert, peer *session) error {
				if p.config.controlPlane && !peer.etcdHealthy() {
					return fmt.Errorf("%s: service \"etcd\" not in expected state", p.hostname)
				}

				return nil
			})
		}},
		{"etcd members to be consistent across nodes", func(_ *nodeConfig, nodes []*advert) error {
			var first *advert

			return each(nodes, func(p *advert, _ *session) error {
				if !p.config.controlPlane {
					return nil
				}

				if first == nil {
					first = p
				}

				if p.etcd.cluster != first.etcd.cluster {
					return fmt.Errorf("%s and %s are in different etcd clusters", first.hostname, p.hostname)
				}

				return nil
			})
		}},
		{"apid to be ready", func(_ *nodeConfig, nodes []*advert) error {
			return each(nodes, func(p *advert, peer *session) error { return peer.serviceHealthy(p.hostname, "apid") })
		}},
		{"kubelet to be healthy", func(_ *nodeConfig, nodes []*advert) error {
			return each(nodes, func(p *advert, peer *session) error { return peer.serviceHealthy(p.hostname, "kubelet") })
		}},
		{"all nodes to finish boot sequence", func(_ *nodeConfig, nodes []*advert) error {
			return each(nodes, func(p *advert, peer *session) error {
				if unmet := peer.unmet(); len(unmet) > 0 {
					return fmt.Errorf("%s: %s: %s", p.hostname, unmet[0].Name, unmet[0].Reason)
				}

				return nil
			})
		}},
	}
}

func each(nodes []*advert, check func(*advert, *session) error) error {
	for _, p := range nodes {
		peer := p.node.session.Load()
		if peer == nil {
			return fmt.Errorf("%s: connection refused", p.hostname)
		}

		if err := check(p, peer); err != nil {
			return err
		}
	}

	return nil
}

func (s *session) serviceHealthy(hostname, id string) error {
	for _, st := range s.serviceStatuses() {
		if st.id == id && st.healthy {
			return nil
		}
	}

	return fmt.Errorf("%s: service %q is not healthy", hostname, id)
}
