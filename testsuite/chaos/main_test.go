package chaos

import (
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/ichor-project/ichor/testsuite/chaos/killer"
	"github.com/ichor-project/ichor/testsuite/chaos/rig"
	"github.com/ichor-project/ichor/testsuite/stack"
)

// atOnce is how many whole systems run side by side unless -parallel says
// otherwise. They mostly wait, for heartbeats and for the cloud.
const atOnce = "4"

func TestMain(m *testing.M) {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		if err := flag.Set("test.parallel", atOnce); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
	}
	home, err := stack.Chosen()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	here = grounds[home.Name]
	started := time.Now()
	code := m.Run()
	systems, kills := rig.Totals()
	fmt.Printf("%s: %d rows at %d moments; %d systems, %d workers killed; wall time %s\n",
		home.Name, len(rows()), len(killer.Moments()), systems, kills, time.Since(started).Round(time.Second))
	os.Exit(code)
}
