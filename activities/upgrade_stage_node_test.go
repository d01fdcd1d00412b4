package activities

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
)

// node finds a node and lets the hooks at it.
func (s *scene) node(method, address string, effect func(n *fakeNode) error) error {
	s.called("%s %s", method, address)
	if h := s.hook; h != nil {
		if err := h(method, address, false); err != nil {
			return err
		}
	}
	s.mu.Lock()
	n := s.nodes[address]
	if n == nil || n.err != nil {
		s.mu.Unlock()
		if n == nil {
			return fault.New(fault.Unavailable, "dial", "nobody answers")
		}
		return n.err
	}
	if s.tick != nil && method == "facts" {
		s.tick(n)
	}
	err := effect(n)
	s.mu.Unlock()
	if err == nil && s.hook != nil {
		err = s.hook(method, address, true)
	}
	return err
}

func (s *scene) Facts(_ context.Context, bundle secrets.Value, address string) (out NodeFacts, err error) {
	if !strings.Contains(string(bundle.Reveal()), canary) {
		return out, fault.New(fault.Unauthorized, "dial", "wrong bundle")
	}
	err = s.node("facts", address, func(n *fakeNode) error {
		out = n.facts
		return nil
	})
	return out, err
}

func (s *scene) Pull(_ context.Context, _ secrets.Value, address, image string, space ImageSpace, progress func(string)) error {
	return s.node("pull "+image+" "+string(space), address, func(*fakeNode) error {
		progress("1 of 2 layers")
		return nil
	})
}

func (s *scene) Install(_ context.Context, _ secrets.Value, address, image string, progress func(string)) error {
	return s.node("install "+image, address, func(*fakeNode) error {
		progress("writing")
		return nil
	})
}

func (n *fakeNode) boot() {
	n.boots++
	n.facts.BootID = fmt.Sprint("boot-", n.boots)
	if n.staged != "" {
		n.facts.ConfigSHA256, n.staged = n.staged, ""
	}
}

func (s *scene) UpgradeWhole(_ context.Context, _ secrets.Value, address, image string) error {
	return s.node("whole "+image, address, func(n *fakeNode) error {
		n.boot()
		return nil
	})
}

func (s *scene) Reboot(_ context.Context, _ secrets.Value, address string, mode RebootMode) error {
	return s.node("reboot "+string(mode), address, func(n *fakeNode) error {
		n.boot()
		return nil
	})
}

func (s *scene) Rollback(_ context.Context, _ secrets.Value, address string) error {
	return s.node("rollback", address, func(n *fakeNode) error {
		n.boot()
		return nil
	})
}

func (s *scene) Apply(_ context.Context, _ secrets.Value, address string, config secrets.Value, staged bool) error {
	return s.node(fmt.Sprint("apply staged=", staged), address, func(n *fakeNode) error {
		sum := digestOf(string(config.Reveal()))
		switch {
		case staged:
			n.staged = sum
		case n.needsReboot:
			return &fault.Error{Kind: fault.Invalid, Op: "apply", Code: NeedsReboot, Message: "must be staged"}
		default:
			n.facts.ConfigSHA256 = sum
		}
		return nil
	})
}

func (s *scene) EtcdHealth(_ context.Context, _ secrets.Value, address string) (out EtcdHealth, err error) {
	err = s.node("etcd", address, func(n *fakeNode) error {
		out = n.etcd
		out.Members = slices.Clone(n.etcd.Members)
		return nil
	})
	return out, err
}

func (s *scene) Forfeit(_ context.Context, _ secrets.Value, address string) error {
	return s.node("forfeit", address, func(own *fakeNode) error {
		for _, n := range s.nodes {
			if n.etcd.Running && n != own {
				s.lead(n.etcd.MemberID)
				return nil
			}
		}
		return fault.New(fault.Unsafe, "forfeit", "nobody else")
	})
}

func (s *scene) lead(id uint64) {
	for _, n := range s.nodes {
		if n.etcd.Running {
			n.etcd.Leader = id
		}
	}
}

func (s *scene) RemoveMember(_ context.Context, _ secrets.Value, address string, id uint64) error {
	return s.node(fmt.Sprint("remove ", id), address, func(*fakeNode) error {
		for _, n := range s.nodes {
			n.etcd.Members = slices.DeleteFunc(slices.Clone(n.etcd.Members), func(m EtcdMemberView) bool { return m.ID == id })
		}
		return nil
	})
}

func (s *scene) Leave(_ context.Context, _ secrets.Value, address string) error {
	return s.node("leave", address, func(own *fakeNode) error {
		for _, n := range s.nodes {
			n.etcd.Members = slices.DeleteFunc(slices.Clone(n.etcd.Members), func(m EtcdMemberView) bool { return m.ID == own.etcd.MemberID })
		}
		own.etcd = EtcdHealth{}
		return nil
	})
}

func (s *scene) Snapshot(_ context.Context, _ secrets.Value, address string, to io.Writer) error {
	return s.node("snapshot", address, func(n *fakeNode) error {
		_, err := io.WriteString(to, canary+" snapshot of "+n.name)
		return err
	})
}

func (s *scene) Recover(_ context.Context, _ secrets.Value, address string, from io.Reader) error {
	body, err := io.ReadAll(from)
	if err != nil {
		return fault.Wrap(fault.Unavailable, "recover", err)
	}
	return s.node("recover "+strings.TrimPrefix(string(body), canary+" "), address, func(n *fakeNode) error {
		n.etcd = EtcdHealth{Running: true, MemberID: 9, Leader: 9, Members: []EtcdMemberView{{ID: 9, Name: n.name}}}
		return nil
	})
}

func (s *scene) Lease(_ context.Context, in LeaseInput) (LeaseResult, error) { return s.leases(in) }
