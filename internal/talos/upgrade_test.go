package talos_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
	"github.com/ichor-project/ichor/internal/talos"
	"github.com/ichor-project/ichor/testsuite/devcloud/talosnode"
)

// TestFacts compares what a node says with what it was given.
func TestFacts(t *testing.T) {
	for _, version := range []string{"v1.12.8", "v1.13.5", "v1.14.1"} {
		t.Run(version, func(t *testing.T) {
			m := newMachines(t, version, 1)
			got := m.facts(0)
			digest, err := talos.Digest(m.config(0))
			if err != nil {
				t.Fatal(err)
			}
			if got.Version != version || got.Schematic != oldSchematic || got.ConfigSHA256 != digest || len(got.BootID) != 36 || got.FreeBytes <= 0 {
				t.Errorf("%+v", got)
			}
			want, err := talos.ReadImages(m.config(0))
			if err != nil {
				t.Fatal(err)
			}
			if got.Images != want || want.Scheduler != "registry.k8s.io/kube-scheduler:v1.36.3" {
				t.Errorf("images %+v, want %+v", got.Images, want)
			}

			waiting := m.lab.Server("demo-cp-9", nil, image(version))
			m.lab.Boot(waiting)
			await(t, "maintenance mode", func(ctx context.Context) (bool, string, error) {
				f, err := talos.ProbeFacts(ctx, talos.DialOptions{Bundle: m.bundle, Address: waiting.Loopback.String()})
				return f.Stage == talos.MaintenanceStage && f.FreeBytes == -1, f.Stage, err
			})
		})
	}
}

// TestInstallAndReboot goes through an upgrade of one node step by step, on every
// version whose upgrades are streamed.
func TestInstallAndReboot(t *testing.T) {
	for _, version := range []string{"v1.13.5", "v1.14.0"} {
		t.Run(version, func(t *testing.T) {
			m := newMachines(t, version, 1)
			before := m.facts(0)
			image := installer(newSchematic, "v1.14.1")
			var lines []string
			note := func(line string) { lines = append(lines, line) }
			install := func(image string) func(*talos.Node) error {
				return func(n *talos.Node) error { return n.Install(t.Context(), image, note) }
			}
			pull := func(image string) func(*talos.Node) error {
				return func(n *talos.Node) error { return n.Pull(t.Context(), image, talos.SystemImage, note) }
			}

			m.refused(0, "pull of no image", fault.Invalid, "", pull("factory.talos.dev/nothing"))
			m.refused(0, "pull into no space", fault.Internal, "no image space", func(n *talos.Node) error {
				return n.Pull(t.Context(), image, "attic", nil)
			})
			m.refused(0, "install before pull", fault.NotFound, "pull it first", install(image))
			m.must(0, "pull", pull(image))
			m.must(0, "pull again", pull(image))
			m.must(0, "pull for Kubernetes", func(n *talos.Node) error {
				return n.Pull(t.Context(), "registry.k8s.io/kube-apiserver:v1.36.3", talos.KubernetesImage, nil)
			})
			for code, kind := range map[int32]fault.Kind{
				1: fault.Internal, 2: fault.Invalid, 3: fault.Invalid, 4: fault.Unsafe, 5: fault.Unavailable, 6: fault.Unavailable, 7: fault.Internal,
			} {
				m.nodes[0].Inject(talosnode.Faults{InstallExitCode: code})
				m.refused(0, "install", kind, fmt.Sprintf("exit code %d", code), install(image))
			}
			m.nodes[0].Inject(talosnode.Faults{})
			tooNew := installer(newSchematic, "v1.18.0")
			m.must(0, "pull", pull(tooNew))
			m.refused(0, "install of a version too far", fault.Unsafe, "pre-flight checks failed", install(tooNew))
			noInstaller := "registry.k8s.io/pause:3.10"
			m.must(0, "pull", pull(noInstaller))
			m.refused(0, "install of something else", fault.Invalid, "invalid input", install(noInstaller))
			m.refused(0, "rollback before any upgrade", fault.Unsafe, "", func(n *talos.Node) error { return n.Rollback(t.Context()) })
			if now := m.facts(0); now.BootID != before.BootID || now.Version != version {
				t.Errorf("something happened: %+v", now)
			}

			lines = nil
			m.must(0, "install", install(image))
			if !slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, "v1.14.1") }) {
				t.Errorf("progress: %q", lines)
			}
			m.must(0, "install again", install(image))
			m.must(0, "reboot", func(n *talos.Node) error { return n.Reboot(t.Context(), talos.RebootDefault) })
			after := m.awaitReady(0, func(f talos.Facts) bool { return f.BootID != before.BootID })
			if after.Version != "v1.14.1" || after.Schematic != newSchematic {
				t.Errorf("after the reboot: %s %s", after.Version, after.Schematic)
			}
			if after.ConfigSHA256 != before.ConfigSHA256 {
				t.Error("the config changed its digest in a reboot")
			}

			// The new slot does not come up, and the boot loader falls back.
			other := installer(oldSchematic, "v1.14.1")
			m.must(0, "pull", pull(other))
			m.must(0, "install", install(other))
			m.nodes[0].Inject(talosnode.Faults{BootOldSlot: true})
			m.must(0, "reboot", func(n *talos.Node) error { return n.Reboot(t.Context(), talos.RebootPowerCycle) })
			fell := m.awaitReady(0, func(f talos.Facts) bool { return f.BootID != after.BootID })
			if fell.Schematic != newSchematic {
				t.Errorf("the silent fall-back shows schematic %s", fell.Schematic)
			}

			m.must(0, "install", install(other))
			m.must(0, "reboot", func(n *talos.Node) error { return n.Reboot(t.Context(), talos.RebootDefault) })
			third := m.awaitReady(0, func(f talos.Facts) bool { return f.Schematic == oldSchematic })
			m.must(0, "rollback", func(n *talos.Node) error { return n.Rollback(t.Context()) })
			back := m.awaitReady(0, func(f talos.Facts) bool { return f.BootID != third.BootID })
			if back.Version != "v1.14.1" || back.Schematic != newSchematic {
				t.Errorf("rolled back to %s %s", back.Version, back.Schematic)
			}
			m.refused(0, "reboot in no way", fault.Internal, "", func(n *talos.Node) error { return n.Reboot(t.Context(), "sideways") })
		})
	}
}

// TestUpgradeBefore113 is the old way: the node does everything behind one answer.
func TestUpgradeBefore113(t *testing.T) {
	m := newMachines(t, "v1.12.8", 2)
	image := installer(newSchematic, "v1.13.5")
	upgrade := func(image string) func(*talos.Node) error {
		return func(n *talos.Node) error { return n.UpgradeWhole(t.Context(), image) }
	}
	before := m.facts(0)
	m.must(0, "old pull", func(n *talos.Node) error { return n.Pull(t.Context(), image, talos.SystemImage, nil) })
	m.refused(0, "install the new way", fault.Invalid, "", func(n *talos.Node) error { return n.Install(t.Context(), image, nil) })
	m.refused(0, "two members", fault.Unsafe, "2 members", upgrade(image))
	m.boot("v1.12.8")
	m.awaitVoters(0, 3)
	// Old Talos gives this no code: surely not begun, whatever the reason.
	m.refused(0, "no installer", fault.Unavailable, "validating installer image", upgrade("registry.k8s.io/pause:3.10"))
	m.must(0, "upgrade", upgrade(image))
	after := m.awaitReady(0, func(f talos.Facts) bool { return f.BootID != before.BootID })
	if after.Version != "v1.13.5" || after.Schematic != newSchematic {
		t.Errorf("after the upgrade: %s %s", after.Version, after.Schematic)
	}
	m.awaitVoters(1, 3)
}

// TestApply changes configs with and without a reboot.
func TestApply(t *testing.T) {
	patched := func(body string) func(*talos.RenderRequest) {
		return func(r *talos.RenderRequest) {
			r.Patches = []talos.Patch{{Field: "spec.talos.patches[0]", Body: []byte(body)}}
		}
	}
	live := patched("machine:\n  sysctls:\n    vm.max_map_count: \"262144\"\n")
	// Talos 1.13 takes this with a reboot only, and shows the change when it
	// refuses.
	deep := patched("machine:\n  env:\n    TOKEN: s3cr3t\n")
	for _, version := range []string{"v1.12.8", "v1.13.5", "v1.14.1"} {
		t.Run(version, func(t *testing.T) {
			m := newMachines(t, version, 1)
			apply := func(config secrets.Value, staged bool) func(*talos.Node) error {
				return func(n *talos.Node) error { return n.Apply(t.Context(), config, staged) }
			}
			digest := func(config secrets.Value) string {
				d, err := talos.Digest(config)
				if err != nil {
					t.Fatal(err)
				}
				return d
			}
			m.must(0, "apply the same", apply(m.config(0), false))
			m.must(0, "apply", apply(m.config(0, live), false))
			if got := m.facts(0).ConfigSHA256; got != digest(m.config(0, live)) {
				t.Error("the applied config is not the running one")
			}
			compressed := func(r *talos.RenderRequest) { live(r); r.Gzip = true }
			m.must(0, "apply compressed", apply(m.config(0, compressed), false))

			m.nodes[0].Inject(talosnode.Faults{LoseApplyResponse: true})
			m.refused(0, "answer lost", fault.Unavailable, "", apply(m.config(0), false))
			if got := m.awaitReady(0, func(talos.Facts) bool { return true }).ConfigSHA256; got != digest(m.config(0)) {
				t.Error("the config whose answer was lost does not run")
			}

			before := m.facts(0)
			if version == "v1.14.1" {
				m.must(0, "deep change", apply(m.config(0, deep), false))
				m.must(0, "and back", apply(m.config(0), false))
			} else {
				m.refused(0, "deep change", fault.Invalid, "needs a reboot", apply(m.config(0, deep), false))
				err := m.on(0, apply(m.config(0, deep), false))
				if f, ok := errors.AsType[*fault.Error](err); !ok || f.Code != talos.NeedsReboot || strings.Contains(err.Error(), "s3cr3t") {
					t.Errorf("deep change: %v", err)
				}
			}
			m.must(0, "stage", apply(m.config(0, deep), true))
			if now := m.facts(0); now.ConfigSHA256 != before.ConfigSHA256 || now.BootID != before.BootID {
				t.Error("a staged config is in effect before the reboot")
			}
			m.must(0, "reboot", func(n *talos.Node) error { return n.Reboot(t.Context(), talos.RebootDefault) })
			after := m.awaitReady(0, func(f talos.Facts) bool { return f.BootID != before.BootID })
			if after.ConfigSHA256 != digest(m.config(0, deep)) {
				t.Error("the staged config is not in effect after the reboot")
			}

			m.refused(0, "another type", fault.Invalid, "", apply(render(t, m.bundle, m.rendered, "demo-w-1", func(r *talos.RenderRequest) {
				r.Role, r.Group = cluster.RoleWorker, "w"
				r.Spec.NodeGroups = []cluster.NodeGroup{{Name: "w"}}
			}), false))
			m.refused(0, "no config", fault.Invalid, "", apply(secrets.NewValue([]byte("machine:\n  tokken: s3cr3t\n")), false))
			m.refused(0, "nothing", fault.Internal, "", apply(secrets.Value{}, false))
		})
	}
}
