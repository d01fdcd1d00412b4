package peers

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ichor-project/ichor/testsuite/devcloud"
	"github.com/ichor-project/ichor/testsuite/devcloud/world"
)

const (
	suite = "github.com/cloudscale-ch/cloudscale-go-sdk/v8/test/integration"
	// skipped lists what nothing in this project uses, and CustomImage_CRUD,
	// which compares checksums over the Internet.
	skipped = "ObjectsUser|Metrics|Snapshot|CustomImage_CRUD"
	// wantTests and wantAll are the size of version 8.0.0 of the suite.
	wantTests, wantAll = 57, 67
	// slow sleeps four times for twenty real seconds; it gets a cloud of its own.
	slow  = "TestIntegrationNetwork_CreateAttached"
	speed = 300
)

// latencies are such that, whatever else the machine does, a deleted server is
// gone when the suite looks for leftovers in its next call, and a load balancer
// is still changing when it reads one in the call after its creation.
func latencies() *world.Latencies {
	l := world.DefaultLatencies()
	l.API = speed * 40 * time.Millisecond
	l.ServerDelete, l.LBDelete = 0, 0
	l.LoadBalancer = speed * time.Second
	return &l
}

// TestCloudscaleSDK runs the vendor's own integration suite, unmodified, each
// shard against a cloud of its own.
func TestCloudscaleSDK(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "sdk.test")
	if out, err := exec.CommandContext(t.Context(), "go", "test", "-c", "-tags=integration", "-o", binary, suite).CombinedOutput(); err != nil {
		t.Fatalf("building the suite: %v\n%s", err, out)
	}
	tests := list(t, binary)
	if len(tests) != wantAll {
		t.Fatalf("the suite has %d tests, want %d", len(tests), wantAll)
	}
	skip := regexp.MustCompile(skipped)
	tests = slices.DeleteFunc(tests, skip.MatchString)
	if len(tests) != wantTests {
		t.Fatalf("%d tests are left after skipping %s, want %d", len(tests), skipped, wantTests)
	}
	shards := split(tests)
	images := imageHost(t)
	var mu sync.Mutex
	passed := map[string]bool{}
	t.Run("shards", func(t *testing.T) {
		for i, shard := range shards {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				t.Parallel()
				names := run(t, binary, shard, fmt.Sprintf("127.%d", 90+i), images)
				mu.Lock()
				defer mu.Unlock()
				for _, n := range names {
					passed[n] = true
				}
			})
		}
	})
	for _, name := range tests {
		if !passed[name] {
			t.Errorf("%s did not pass", name)
		}
	}
	if len(passed) != wantTests {
		t.Errorf("%d tests passed, want %d", len(passed), wantTests)
	}
	t.Logf("cloudscale-go-sdk v8: %d of %d tests passed (skipped: %s)", len(passed), wantAll, skipped)
}

// list returns the names of the suite's tests. The binary wants a token even
// for that, and looks for leftovers afterwards, so it gets a cloud.
func list(t *testing.T, binary string) []string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binary, "-test.list", ".*")
	cmd.Env = append(os.Environ(), "CLOUDSCALE_API_TOKEN=x", "CLOUDSCALE_API_URL="+cloud(t, "127.89", nil).URL())
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("listing the suite: %v", err)
	}
	return slices.DeleteFunc(strings.Fields(string(out)), func(s string) bool { return !strings.HasPrefix(s, "Test") })
}

// split makes one shard of the slow test and three of the others.
func split(tests []string) [][]string {
	shards := [][]string{{slow}, nil, nil, nil}
	n := 0
	for _, name := range tests {
		if name != slow {
			shards[1+n%3] = append(shards[1+n%3], name)
			n++
		}
	}
	return shards
}

func cloud(t *testing.T, prefix string, hosts map[string]string) *devcloud.Devcloud {
	t.Helper()
	d, err := devcloud.Start(t.Context(), devcloud.Options{
		Speed: speed, Latencies: latencies(), LoopbackPrefix: prefix, ImageHosts: hosts,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// imageHost serves the image that the suite imports from the Internet.
func imageHost(t *testing.T) map[string]string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/prod/alpine.raw" {
			http.NotFound(rw, r)
			return
		}
		if _, err := rw.Write(bytes.Repeat([]byte{0}, 4096)); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(s.Close)
	return map[string]string{"at-images.objects.lpg.cloudscale.ch": s.URL, "www.cloudscale.ch": s.URL}
}

var verdict = regexp.MustCompile(`(?m)^--- (PASS|FAIL|SKIP): (\S+)`)

// run returns the names of the tests that passed.
func run(t *testing.T, binary string, names []string, prefix string, hosts map[string]string) []string {
	t.Helper()
	d := cloud(t, prefix, hosts)
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), binary,
		"-test.v", "-test.timeout", "10m", "-test.run", "^("+strings.Join(names, "|")+")$")
	cmd.Env = append(os.Environ(), "CLOUDSCALE_API_TOKEN=x", "CLOUDSCALE_API_URL="+d.URL())
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("suite: %v\n%s", err, out)
	}
	var passed []string
	for _, m := range verdict.FindAllStringSubmatch(string(out), -1) {
		if m[1] == "PASS" {
			passed = append(passed, m[2])
		} else {
			t.Errorf("%s: %s", m[1], m[2])
		}
	}
	if n := d.World().State().Count; n != 0 {
		t.Errorf("%d resources are left: %+v", n, d.World().State())
	}
	return passed
}
