package autoscaler

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/ichor-project/ichor/testsuite/stack"
)

// Wire is one generation of the contract, named by the program that speaks it.
type Wire string

const (
	oldWire Wire = "cluster-autoscaler"         // 1.30 to 1.34.1
	newWire Wire = "cluster-autoscaler-newwire" // from 1.35
)

var root, bin string

func TestMain(m *testing.M) {
	var err error
	if root, err = stack.Root(); err == nil {
		if bin = os.Getenv("ICHOR_BIN"); bin == "" {
			bin = filepath.Join(root, "bin")
		}
		err = stack.Missing(bin)
		for _, p := range []string{"ichor-grpcprovider", "tools/" + string(oldWire), "tools/" + string(newWire)} {
			_, missing := os.Stat(filepath.Join(bin, p))
			err = errors.Join(err, missing)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	// What runs at once is limited by systems and scenarios, not by processors:
	// most of it waits.
	flag.Parse()
	if err := flag.Set("test.parallel", "64"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// systems bounds how many systems run at once: each has a Kubernetes, a Temporal
// server and an autoscaler that never rest.
var systems = make(chan struct{}, 2)

// scenariosAtOnce bounds those of one system.
const scenariosAtOnce = 6
