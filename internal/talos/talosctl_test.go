package talos_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/talos"
)

// TestTalosctlAcceptsConfig lets the talosctl of Talos 1.13 judge configs for
// 1.13: the generator is that of 1.14 and must not write what 1.13 cannot read.
func TestTalosctlAcceptsConfig(t *testing.T) {
	tools, err := filepath.Abs("../../bin/tools")
	if err != nil {
		t.Fatal(err)
	}
	if set := os.Getenv("ICHOR_TOOLS_DIR"); set != "" {
		tools = set
	}
	talosctl := filepath.Join(tools, "talosctl")
	if _, err := os.Stat(talosctl); err != nil {
		t.Fatalf("%v; build the tools with: make tools", err)
	}
	b := bundle(t, "v1.13")
	for _, role := range []cluster.Role{cluster.RoleControlPlane, cluster.RoleWorker} {
		config := render(t, b, "v1.13.5", "demo-x-1", func(r *talos.RenderRequest) {
			r.Role, r.Group = role, "w"
			r.Spec.NodeGroups = []cluster.NodeGroup{{
				Name: "w", Labels: map[string]string{"example.com/pool": "w"},
				Taints: []cluster.Taint{{Key: "example.com/batch", Value: "yes", Effect: "NoSchedule"}},
			}}
		})
		file := filepath.Join(t.TempDir(), "config.yaml")
		if err := os.WriteFile(file, config.Reveal(), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), talosctl, "validate", "--config", file, "--mode", "cloud", "--strict")
		cmd.Env = []string{"HOME=" + t.TempDir()}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", role, err, out)
		}
	}
}
