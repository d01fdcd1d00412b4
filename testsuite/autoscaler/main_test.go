package autoscaler

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"sync"
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

// chosen is the cloud that the suite runs on: ICHOR_TEST_CLOUD names it.
var chosen stack.Cloud

func TestMain(m *testing.M) {
	var err error
	if chosen, root, bin, err = stack.Suite("ichor-grpcprovider", "tools/"+string(oldWire), "tools/"+string(newWire)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	// What runs at once is limited by lanes and scenarios, not by processors:
	// most of it waits.
	flag.Parse()
	if err := flag.Set("test.parallel", "64"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// lanes bound how many systems run at once: each has a Kubernetes, a Temporal
// server and an autoscaler that never rest, and takes a third of a processor. The
// tests of a lane run one after the other; together they take about as long as
// those of any other lane, so that none goes on alone at the end.
var lanes = [][]string{
	{"TestNewWire", "TestOldWire"},
	{"TestFailures", "TestMany", "TestRig"},
	{"TestDisturbances", "TestOutages/cloud", "TestOutages/worker"},
}

var busy = make([]sync.Mutex, len(lanes))

// enter waits for the test's turn in its lane and stays there until it ends. Long
// outages have no others beside them and begin at once.
func enter(t *testing.T) {
	t.Helper()
	if os.Getenv("ICHOR_OUTAGE") != "" {
		return
	}
	lane := slices.IndexFunc(lanes, func(tests []string) bool { return slices.Contains(tests, t.Name()) })
	if lane < 0 {
		t.Fatalf("%s is in no lane", t.Name())
	}
	busy[lane].Lock()
	t.Cleanup(busy[lane].Unlock)
}

// scenariosAtOnce bounds those of one system.
const scenariosAtOnce = 6
