package talosnode_test

import (
	"errors"
	"testing"

	"github.com/ichor-project/ichor/testsuite/devcloud/talosnode"
	"github.com/ichor-project/ichor/testsuite/devcloud/talosnode/nodetest"
)

// A machine that never joins boots and serves its machine API; only its kubelet
// does not start, until the fault is gone.
func TestNeverJoins(t *testing.T) {
	t.Parallel()

	l := nodetest.New(t)
	p := nodetest.NewPKI(t, "v1.13")
	cp := l.Server("cp-0", p.ControlPlane())
	l.Boot(cp)

	late, fine := l.Server("late-0", p.Worker()), l.Server("fine-0", p.Worker())
	n := l.Boot(late)
	n.Inject(talosnode.Faults{NeverJoins: true})
	l.Boot(fine)

	joined := func(name string) func() error {
		return func() error {
			if _, ok := l.Kube.Kubelet(name); !ok {
				return errors.New("no kubelet")
			}

			return nil
		}
	}

	nodetest.Eventually(t, "the healthy one joins", joined("fine-0"))

	c := p.Dial(late.Loopback)
	nodetest.Eventually(t, "the other one serves", func() error {
		_, err := c.Version(call(t))

		return err
	})

	if joined("late-0")() == nil {
		t.Error("the kubelet was started")
	}

	n.Inject(talosnode.Faults{})
	nodetest.Eventually(t, "it joins when nothing is wrong with it any more", joined("late-0"))
}
