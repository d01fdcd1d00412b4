package telemetry_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
	"github.com/ichor-project/ichor/internal/telemetry"
)

const canary = "canary-51e0-hunter2"

func start(t *testing.T, o telemetry.Options) *telemetry.Telemetry {
	t.Helper()
	tel, err := telemetry.New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tel.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	})
	return tel
}

type named struct{ Text string }

type stringer struct{ text string }

func (s stringer) String() string { return s.text }

func TestLogsDoNotRepeatSecrets(t *testing.T) {
	pem := "-----BEGIN EC PRIVATE KEY-----\n" + canary + "\n-----END EC PRIVATE KEY-----"
	for _, format := range []string{"text", "json"} {
		for name, write := range map[string]func(l *slog.Logger){
			"value":             func(l *slog.Logger) { l.Info("x", "v", secrets.NewValue([]byte(canary))) },
			"known, message":    func(l *slog.Logger) { l.Info("got known-" + canary) },
			"known, string":     func(l *slog.Logger) { l.Info("x", "v", "a known-"+canary+" b") },
			"known, error":      func(l *slog.Logger) { l.Info("x", "error", fmt.Errorf("bad: %w", errors.New("known-"+canary))) },
			"known, stringer":   func(l *slog.Logger) { l.Info("x", "v", stringer{"known-" + canary}) },
			"known, struct":     func(l *slog.Logger) { l.Info("x", "v", named{"known-" + canary}) },
			"known, pointer":    func(l *slog.Logger) { l.Info("x", "v", &named{"known-" + canary}) },
			"known, slice":      func(l *slog.Logger) { l.Info("x", "v", []string{"known-" + canary}) },
			"known, bytes":      func(l *slog.Logger) { l.Info("x", "v", []byte("known-"+canary)) },
			"known, group":      func(l *slog.Logger) { l.WithGroup("g").Info("x", slog.Group("h", "v", "known-"+canary)) },
			"known, with":       func(l *slog.Logger) { l.With("v", "known-"+canary).Info("x") },
			"known, in base64":  func(l *slog.Logger) { l.Info(base64.StdEncoding.EncodeToString([]byte("known-" + canary))) },
			"name":              func(l *slog.Logger) { l.Info("x", "apiToken", canary) },
			"name, any":         func(l *slog.Logger) { l.Info("x", "userData", named{canary}) },
			"private key":       func(l *slog.Logger) { l.Info("config: " + pem) },
			"cut private key":   func(l *slog.Logger) { l.Info(pem[:60]) },
			"key in base64":     func(l *slog.Logger) { l.Info("x", "v", base64.StdEncoding.EncodeToString([]byte(pem))) },
			"bearer":            func(l *slog.Logger) { l.Info("x", "header", "Authorization: Bearer "+canary) },
			"URL":               func(l *slog.Logger) { l.Info("GET https://user:" + canary + "@host/") },
			"JSON web token":    func(l *slog.Logger) { l.Info("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJjYW5hcnkifQ." + canary) },
			"AWS access key id": func(l *slog.Logger) { l.Info("key AKIAABCDEFGHIJKLMNOP ") },
		} {
			var out bytes.Buffer
			tel := start(t, telemetry.Options{LogFormat: format, LogOutput: &out})
			tel.Redact.Add(secrets.NewValue([]byte("known")))
			tel.Redact.Add(secrets.NewValue([]byte("known-" + canary + "\n")))
			write(tel.Logger())
			text := out.String()
			if strings.Contains(text, canary) || strings.Contains(text, base64.StdEncoding.EncodeToString([]byte(canary))[:16]) || strings.Contains(text, "AKIA") {
				t.Errorf("%s, %s: %s", format, name, text)
			}
			if !strings.Contains(text, "[redacted]") {
				t.Errorf("%s, %s: does not say that something is missing: %s", format, name, text)
			}
		}
	}
}

func TestLogsKeepTheRest(t *testing.T) {
	var out bytes.Buffer
	tel := start(t, telemetry.Options{LogFormat: "json", LogOutput: &out, LogLevel: "debug"})
	tel.Redact.Add(secrets.NewValue([]byte("a"))) // too short to look for
	tel.Logger().Debug("creating a machine", "cluster", "demo", "n", 3, "credentials", "env:CLOUDSCALE_API_TOKEN",
		"v", named{"x"}, "list", []string{"a", "b"}, "secret", "", "err", errors.New("quota"))
	var line map[string]any
	if err := json.Unmarshal(out.Bytes(), &line); err != nil {
		t.Fatal(err)
	}
	delete(line, "time")
	got, err := json.Marshal(line)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"cluster":"demo","credentials":"env:CLOUDSCALE_API_TOKEN","err":"quota","level":"DEBUG","list":["a","b"],"msg":"creating a machine","n":3,"secret":"","v":{"Text":"x"}}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestBadOptions(t *testing.T) {
	for name, o := range map[string]telemetry.Options{
		"format":   {LogFormat: "xml"},
		"level":    {LogLevel: "loud"},
		"address":  {MetricsListen: "9090"},
		"endpoint": {OTLPEndpoint: "localhost:4317"},
	} {
		if _, err := telemetry.New(t.Context(), o); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

type resolver string

func (r resolver) Resolve(_ context.Context, ref secrets.Ref) (secrets.Value, error) {
	if ref != "env:TOKEN" {
		return secrets.Value{}, fault.New(fault.NotFound, "resolve", "absent")
	}
	return secrets.NewValue([]byte(r)), nil
}

func TestResolvedValuesAreRedacted(t *testing.T) {
	var out bytes.Buffer
	tel := start(t, telemetry.Options{LogOutput: &out})
	r := tel.Redact.Watch(resolver(canary))
	if _, err := r.Resolve(t.Context(), "env:OTHER"); !fault.Is(err, fault.NotFound) {
		t.Error(err)
	}
	if v, err := r.Resolve(t.Context(), "env:TOKEN"); err != nil || v.RevealString() != canary {
		t.Error(err)
	}
	tel.Logger().Error("the cloud answered: bad header " + canary)
	if text := out.String(); strings.Contains(text, canary) || !strings.Contains(text, "[redacted]") {
		t.Error(text)
	}
}
