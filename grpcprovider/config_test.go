package main

import (
	"errors"
	"flag"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func none(string) string { return "" }

func parse(t *testing.T, env map[string]string, args ...string) (config, error) {
	t.Helper()
	return parseConfig(args, func(k string) string { return env[k] }, io.Discard)
}

func TestConfigReportsEveryProblemAtOnce(t *testing.T) {
	env := map[string]string{"ICHOR_REFRESH_EVERY": "soon", "ICHOR_LOG_FORMAT": "xml", "ICHOR_REQUEST_RATE": "NaN"}
	_, err := parse(t, env, "--listen", "nowhere", "--metrics-listen", "here", "--log-level", "loud", "--store-key", "file:///k", "stray")
	if err == nil {
		t.Fatal("bad settings were accepted")
	}
	for _, want := range []string{
		"ICHOR_REFRESH_EVERY", "log-format", "ICHOR_REQUEST_RATE", "listen", "metrics-listen", "log-level", "store-key",
		"tls-cert", "tls-key", "tls-client-ca", "stray",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not name %s: %v", want, err)
		}
	}
}

func TestPlaintextOnLoopbackOnly(t *testing.T) {
	tls := []string{"--tls-cert", "c", "--tls-key", "k", "--tls-client-ca", "a"}
	for name, tc := range map[string]struct {
		args []string
		bad  string // empty when it is fine
	}{
		"nothing":                 {nil, "tls-cert: is required"},
		"TLS":                     {tls, ""},
		"half of TLS":             {tls[:4], "tls-client-ca: is required"},
		"insecure everywhere":     {[]string{"--insecure"}, "not a loopback address"},
		"insecure on an address":  {[]string{"--insecure", "--listen", "192.0.2.1:8086"}, "not a loopback address"},
		"insecure on a name":      {[]string{"--insecure", "--listen", "localhost.example:8086"}, "not a loopback address"},
		"insecure on all of IPv6": {[]string{"--insecure", "--listen", "[::]:8086"}, "not a loopback address"},
		"insecure on loopback":    {[]string{"--insecure", "--listen", "127.0.0.1:0"}, ""},
		"insecure on IPv6":        {[]string{"--insecure", "--listen", "[::1]:0"}, ""},
		"insecure on localhost":   {[]string{"--insecure=true", "--listen", "localhost:0"}, ""},
		"insecure with TLS":       {append([]string{"--insecure", "--listen", "127.0.0.1:0"}, tls...), "cannot be combined"},
		"insecure taken back":     {[]string{"--insecure=false", "--listen", "127.0.0.1:0"}, "tls-cert: is required"},
	} {
		_, err := parseConfig(tc.args, none, io.Discard)
		if (err == nil) != (tc.bad == "") || err != nil && !strings.Contains(err.Error(), tc.bad) {
			t.Errorf("%s: error %v, want %q", name, err, tc.bad)
		}
	}
}

func TestFlagsWinOverEnvironment(t *testing.T) {
	env := map[string]string{
		"ICHOR_INSECURE": "true", "ICHOR_LISTEN": "127.0.0.1:1", "ICHOR_CLUSTER": "a", "ICHOR_SECRET_ENV": "X,Y",
		"ICHOR_REFRESH_EVERY": "5s", "CLOUDSCALE_API_URL": "http://127.0.0.1:2",
	}
	got, err := parse(t, env, "--listen", "127.0.0.1:3", "--secret-env", "c", "--secret-env", "d,c")
	if err != nil {
		t.Fatal(err)
	}
	want := defaultConfig()
	want.Listen, want.Insecure, want.Cluster, want.SecretEnv = "127.0.0.1:3", true, "a", []string{"c", "d"}
	want.Refresh, want.CloudscaleURL = 5*time.Second, "http://127.0.0.1:2/"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
}

func TestHelpNamesEveryVariable(t *testing.T) {
	var out strings.Builder
	if _, err := parseConfig([]string{"--help"}, none, &out); !errors.Is(err, flag.ErrHelp) {
		t.Fatal(err)
	}
	c := defaultConfig()
	for _, s := range c.settings() {
		if !strings.Contains(out.String(), "["+variable(s.name)+"]") {
			t.Errorf("--help does not name %s", variable(s.name))
		}
	}
}

// One shell may hold the settings of the CLI and of the provider.
func TestTheCLIsFileIsNotTheProviders(t *testing.T) {
	env := map[string]string{"ICHOR_CONFIG": "cli.yaml", "ICHOR_INSECURE": "true", "ICHOR_LISTEN": "127.0.0.1:0"}
	if c, err := parse(t, env); err != nil || c.File != "" {
		t.Errorf("the provider reads %q: %v", c.File, err)
	}
	env["ICHOR_PROVIDER_CONFIG"] = "groups.yaml"
	if c, err := parse(t, env); err != nil || c.File != "groups.yaml" {
		t.Errorf("the provider reads %q: %v", c.File, err)
	}
}
