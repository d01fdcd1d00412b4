package peerstalos

import (
	"path/filepath"
	"testing"

	"github.com/ichor-project/ichor/testsuite/devcloud/kube"
	"github.com/ichor-project/ichor/testsuite/devcloud/talosnode/nodetest"
)

// withKubernetes makes nodes behind which a real Kubernetes runs, so many times
// faster than real ones.
func withKubernetes(t *testing.T, speed int) *nodetest.Lab {
	t.Helper()

	tools, err := filepath.Abs(filepath.Join("..", "..", "bin", "tools"))
	if err != nil {
		t.Fatal(err)
	}

	clock := nodetest.Clock{Speed: speed}
	runner := kube.New(kube.Options{ToolsDir: tools, DataDir: t.TempDir(), Clock: clock})

	t.Cleanup(func() {
		if err := runner.Close(); err != nil {
			t.Error(err)
		}
	})

	return nodetest.New(t, nodetest.WithKubernetes(runner, clock))
}
