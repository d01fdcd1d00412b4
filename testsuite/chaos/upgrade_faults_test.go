package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/testsuite/devcloud/quorum"
	"github.com/ichor-project/ichor/testsuite/stack"
)

// kitchen is where the troubles of a seed are made.
type kitchen struct {
	*upgrading
	dice          *rand.Rand
	talos         bool // nodes are installed and rebooted
	planes, works []string
}

// brew draws up to three troubles.
func (s *upgrading) brew(ctx context.Context, t *testing.T, st *upgradeStorm, dice *rand.Rand) {
	t.Helper()
	state, err := s.State(ctx)
	if err != nil {
		t.Fatal(err)
	}
	k := &kitchen{upgrading: s, dice: dice, talos: st.want.schematic != ""}
	for _, v := range state.Machines() {
		if v.Tags[cluster.TagGroup] == cluster.ControlPlaneGroup {
			k.planes = append(k.planes, v.Name)
		} else {
			k.works = append(k.works, v.Name)
		}
	}
	slices.Sort(k.planes)
	slices.Sort(k.works)
	st.troubles = k.draw()
}

// draw chooses from all that can go wrong.
func (k *kitchen) draw() (out []*trouble) {
	menu := []func() *trouble{k.pullFails, k.alarm, k.workerOff, k.planeOff, k.deleted, k.lostApply}
	if k.talos {
		menu = []func() *trouble{
			k.pullFails, k.alarm, k.workerOff, k.planeOff, k.planeOff, k.deleted, k.hangs, k.hangs, k.oldSlot, k.oldSlot, k.learner,
			k.budget, k.budget, k.exitCode, k.exitCode, k.installHangs, k.brokenStream, k.lostReboot, k.slowBoot, k.fullDisk,
		}
	}
	// One in eight has none: what a roll costs etcd when nothing is wrong.
	for range (1 + k.dice.IntN(3)) * min(1, k.dice.IntN(8)) {
		x := menu[k.dice.IntN(len(menu))]()
		// Two of a kind would not tell more than one.
		if !slices.ContainsFunc(out, func(o *trouble) bool { return o.kind == x.kind }) {
			out = append(out, x)
		}
	}
	return out
}

func (k *kitchen) one(names ...string) string { return names[k.dice.IntN(len(names))] }

func (k *kitchen) any() string { return k.one(slices.Concat(k.planes, k.works)...) }

// lasts is how long a trouble goes on: mostly not long enough for the roll to ask
// for help.
func (k *kitchen) lasts() time.Duration {
	if k.dice.IntN(4) == 0 {
		return 0
	}
	return time.Duration(1500+k.dice.IntN(4500)) * time.Millisecond
}

// work is an activity of a node that is worked on, one of several.
func (k *kitchen) work(node string, talos ...string) moment {
	if !k.talos {
		talos = []string{"ApplyMachineConfig", "WaitComponent", "HoldNode"}
	}
	return moment{k.one(talos...), node}
}

// armed is a fault that the machine has from the beginning.
func (k *kitchen) armed(kind, key string, value any, at moment, says ...string) *trouble {
	node := at.node
	return &trouble{
		kind: kind, node: node, at: at, says: says,
		arm:  func(ctx context.Context) error { return k.fault(ctx, node, key, value) },
		cure: func(ctx context.Context) error { return k.fault(ctx, node, key, nil) },
	}
}

func (k *kitchen) hangs() *trouble {
	x := k.armed("hang", "hangAfterReboot", true, moment{"WaitBooted", k.any()}, "answer", "booted", "API", "etcd")
	x.after = k.lasts()
	x.cure = func(ctx context.Context) error {
		if err := k.fault(ctx, x.node, "hangAfterReboot", nil); err != nil {
			return err
		}
		hung, err := k.consoleEnds(ctx, x.node, "kexec: starting new kernel")
		if err != nil || !hung {
			return err
		}
		return errors.Join(k.power(ctx, x.node, stack.PowerOff), k.power(ctx, x.node, stack.PowerOn))
	}
	return x
}

func (k *kitchen) oldSlot() *trouble {
	return k.armed("old slot", "bootOldSlot", true, moment{"WaitBooted", k.any()}, "old slot")
}

func (k *kitchen) exitCode() *trouble {
	code := []int{1, 4, 5, 6, 7}[k.dice.IntN(5)]
	x := k.armed(fmt.Sprintf("exit code %d", code), "installExitCode", code, moment{"InstallTalos", k.any()}, "install")
	x.after = k.lasts()
	return x
}

func (k *kitchen) installHangs() *trouble {
	x := k.armed("silent installer", "installHangs", true, moment{"InstallTalos", k.any()}, "install")
	x.after = k.lasts()
	return x
}

func (k *kitchen) brokenStream() *trouble {
	return k.armed("broken stream", "breakInstallStream", true, moment{"InstallTalos", k.any()})
}

func (k *kitchen) lostReboot() *trouble {
	return k.armed("lost answer to reboot", "loseRebootResponse", true, moment{"RebootNode", k.any()})
}

func (k *kitchen) lostApply() *trouble {
	return k.armed("lost answer to apply", "loseApplyResponse", true, moment{"ApplyMachineConfig", k.any()})
}

func (k *kitchen) slowBoot() *trouble {
	return k.armed("slow boot", "bootDelay", time.Duration(1+k.dice.IntN(6))*time.Minute, moment{"RebootNode", k.any()})
}

func (k *kitchen) pullFails() *trouble {
	at := moment{"PullImage", k.any()}
	if !k.talos {
		at.activity = "PullComponentImages" // of the roll, for all nodes
	}
	x := k.armed("no pulls", "imagePullFails", true, at, "pull")
	if !k.talos {
		x.at.node = ""
	}
	x.after = k.lasts()
	return x
}

// fullDisk may be there already when the pre-flight looks.
func (k *kitchen) fullDisk() *trouble {
	x := k.armed("full disk", "diskFull", true, moment{"PullImage", k.any()}, "install", "pull", "free", "space", "disk")
	if k.dice.IntN(2) == 0 {
		x.at = moment{}
	} else {
		arm := x.arm
		x.arm = nil
		x.strike = func(ctx context.Context) (bool, error) { return true, arm(ctx) }
	}
	x.after = k.lasts()
	return x
}

// alarm is etcd's own. Nothing but a person ends it.
func (k *kitchen) alarm() *trouble {
	node := k.one(k.planes...)
	x := &trouble{kind: "alarm", node: node, says: []string{"NOSPACE"}, after: k.lasts()}
	raise := func(ctx context.Context) error { return k.fault(ctx, node, "etcdAlarm", "NOSPACE") }
	if k.dice.IntN(3) == 0 {
		x.arm = raise
	} else {
		x.at = k.work(k.one(k.planes...), "PullImage", "InstallTalos", "DrainForWork", "WaitBooted")
		x.strike = func(ctx context.Context) (bool, error) { return true, raise(ctx) }
	}
	x.cure = func(ctx context.Context) error { return k.talosctl(ctx, node, "etcd", "alarm", "disarm") }
	return x
}

// learner is a control plane that has left etcd and came back: it waits to vote.
func (k *kitchen) learner() *trouble {
	node := k.one(k.planes...)
	return &trouble{
		kind: "learner", node: node, says: []string{"vote", "learner", "not ready", "no member"},
		arm: func(ctx context.Context) error {
			if err := k.fault(ctx, node, "learnerNeverPromotes", true); err != nil {
				return err
			}
			if err := k.talosctl(ctx, node, "etcd", "leave"); err != nil {
				return err
			}
			if err := errors.Join(k.power(ctx, node, stack.PowerOff), k.power(ctx, node, stack.PowerOn)); err != nil {
				return err
			}
			return k.etcd(ctx, func(s quorum.Sample) bool { return s.Members == 3 && s.Voters == 2 })
		},
		cure: func(ctx context.Context) error {
			if err := k.fault(ctx, node, "learnerNeverPromotes", nil); err != nil {
				return err
			}
			return k.etcd(ctx, wholeEtcd)
		},
	}
}

func wholeEtcd(s quorum.Sample) bool {
	return s.Members == 3 && s.Healthy == 3 && s.Voters == 3 && len(s.Away) == 0
}

// budget lets no pod of the workload go.
func (k *kitchen) budget() *trouble {
	api := k.kube.PolicyV1().PodDisruptionBudgets(metav1.NamespaceDefault)
	return &trouble{
		kind: "budget", at: moment{activity: "DrainForWork"}, after: time.Duration(k.dice.IntN(2)) * k.lasts(), says: []string{"budget", web},
		strike: func(ctx context.Context) (bool, error) {
			_, err := api.Create(ctx, &policyv1.PodDisruptionBudget{
				ObjectMeta: metav1.ObjectMeta{Name: web},
				Spec: policyv1.PodDisruptionBudgetSpec{
					MaxUnavailable: new(intstr.FromInt32(0)), Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": web}},
				},
			}, metav1.CreateOptions{})
			return true, err
		},
		cure: func(ctx context.Context) error {
			if err := api.Delete(ctx, web, metav1.DeleteOptions{}); !apierrors.IsNotFound(err) {
				return err
			}
			return nil
		},
	}
}

// workerOff is a worker whose power goes.
func (k *kitchen) workerOff() *trouble {
	node := k.one(k.works...)
	return k.off("worker off", node, k.work(k.any(), "PullImage", "InstallTalos", "DrainForWork", "RebootNode", "WaitBooted"),
		func(context.Context) (bool, error) { return true, nil })
}

// planeOff is a control plane whose power goes while another one is being
// prepared, or before any is, and all of etcd is well: from then on none may be
// taken out.
func (k *kitchen) planeOff() *trouble {
	at := k.work(k.one(k.planes...), "PullImage", "InstallTalos", "HoldNode", "DrainForWork")
	others := slices.DeleteFunc(slices.Clone(k.planes), func(n string) bool { return n == at.node })
	if k.dice.IntN(4) == 0 {
		at, others = moment{activity: k.one("CheckUpgrade", "FreezeLeg", "SnapshotEtcd", "CommitLeg")}, k.planes // of the roll itself
	}
	return k.off("control plane off", k.one(others...), at, func(ctx context.Context) (bool, error) {
		r, err := quorum.Fetch(ctx, k.CloudURL)
		return err == nil && wholeEtcd(present(r).Now), err
	})
}

func (k *kitchen) off(kind, node string, at moment, may func(context.Context) (bool, error)) *trouble {
	return &trouble{
		kind: kind, node: node, at: at, after: k.lasts(), says: []string{"answer", "reached", "etcd", "ready", "Ready", "wait", "API", "timeout", "connect"},
		strike: func(ctx context.Context) (bool, error) {
			if ok, err := may(ctx); err != nil || !ok {
				return false, err
			}
			return true, k.power(ctx, node, stack.PowerOff)
		},
		cure: func(ctx context.Context) error { return k.power(ctx, node, stack.PowerOn) },
	}
}

// deleted is a worker that somebody deletes by hand.
func (k *kitchen) deleted() *trouble {
	node := k.one(k.works...)
	x := &trouble{kind: "deleted by hand", node: node, says: []string{"answer", "reached", "gone", "Node object", "member", "deleted", "exist", "wait", "API", "not found", "connect"}}
	remove := func(ctx context.Context) error {
		v, ok, err := k.server(ctx, node)
		if err != nil || !ok {
			return err
		}
		return k.ByHand(ctx, v, stack.Delete)
	}
	if k.dice.IntN(4) == 0 {
		x.arm = remove
		return x
	}
	x.at = k.work(k.any(), "PullImage", "InstallTalos", "DrainForWork", "RebootNode", "WaitBooted")
	x.strike = func(ctx context.Context) (bool, error) { return true, remove(ctx) }
	return x
}

// server finds a machine in the account; false if it is gone.
func (s *upgrading) server(ctx context.Context, node string) (stack.Resource, bool, error) {
	state, err := s.State(ctx)
	for _, v := range state.Machines() {
		if v.Name == node {
			return v, true, err
		}
	}
	return stack.Resource{}, false, err
}

// fault changes one fault of a machine and leaves the others; a machine that is
// gone has none.
func (s *upgrading) fault(ctx context.Context, node, key string, value any) error {
	v, ok, err := s.server(ctx, node)
	if err != nil || !ok {
		return err
	}
	path, all := "_devcloud/guests/"+v.ID+"/faults", map[string]any{}
	if err := s.Cloud(ctx, http.MethodGet, path, nil, &all); err != nil {
		return err
	}
	delete(all, key)
	if value != nil {
		all[key] = value
	}
	return s.Cloud(ctx, http.MethodPut, path, all, nil)
}

// power switches a machine on or off and waits until it is.
func (s *upgrading) power(ctx context.Context, node string, what stack.Action) error {
	then := map[stack.Action]string{stack.PowerOff: "stopped", stack.PowerOn: "running"}[what]
	for asked := false; ; {
		v, ok, err := s.server(ctx, node)
		switch {
		case err != nil || !ok || v.State == then:
			return err
		case !asked && (v.State == "running" || v.State == "stopped"):
			if err := s.ByHand(ctx, v, what); err != nil {
				return err
			}
			asked = true
		}
		if err := pause(ctx); err != nil {
			return fmt.Errorf("%s %s: %w", what, node, err)
		}
	}
}

func pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(50 * time.Millisecond):
		return nil
	}
}

// etcd waits for a state of the cluster's etcd.
func (s *upgrading) etcd(ctx context.Context, is func(quorum.Sample) bool) error {
	for {
		r, err := quorum.Fetch(ctx, s.CloudURL)
		if err == nil && is(present(r).Now) {
			return nil
		}
		if perr := pause(ctx); perr != nil {
			return fmt.Errorf("etcd is %+v: %w", present(r).Now, perr)
		}
	}
}

func (s *upgrading) consoleEnds(ctx context.Context, node, with string) (bool, error) {
	lines, err := s.console(ctx, node)
	return len(lines) > 0 && strings.Contains(lines[len(lines)-1], with), err
}

func (s *upgrading) console(ctx context.Context, node string) (lines []string, err error) {
	v, ok, err := s.server(ctx, node)
	if err != nil || !ok {
		return nil, err
	}
	return s.Console(ctx, v)
}

// talosctl is what a person would use.
func (s *upgrading) talosctl(ctx context.Context, node string, args ...string) error {
	v, ok, err := s.server(ctx, node)
	if err != nil || !ok {
		return err
	}
	r, err := s.Tool(ctx, nil, "talosctl", append([]string{"--talosconfig", s.talosconfig, "--endpoints", v.Address, "--nodes", v.Address}, args...)...)
	if err == nil && r.Code != 0 {
		err = fmt.Errorf("talosctl %v: %s", args, r)
	}
	return err
}
