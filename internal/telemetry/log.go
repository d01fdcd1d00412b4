package telemetry

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
)

func newLogger(o Options, r *Redactor) (*slog.Logger, error) {
	level := slog.LevelInfo
	if o.LogLevel != "" {
		if err := level.UnmarshalText([]byte(o.LogLevel)); err != nil {
			return nil, fault.New(fault.Invalid, "start logging", "the level must be debug, info, warn or error")
		}
	}
	ho := &slog.HandlerOptions{Level: level, ReplaceAttr: r.replace}
	switch o.LogFormat {
	case "", "text":
		return slog.New(slog.NewTextHandler(o.LogOutput, ho)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(o.LogOutput, ho)), nil
	default:
		return nil, fault.New(fault.Invalid, "start logging", "the format must be text or json")
	}
}

const redacted = "[redacted]"

// minSecret is the length from which values are looked for: shorter ones occur
// in ordinary text.
const minSecret = 6

// Redactor removes secrets from log lines: the last line of defence behind
// secrets.Value, for what code of others puts into errors and messages. It
// knows the shapes of keys and tokens, names that promise a secret, and every
// value it was told. The zero value is ready to use.
type Redactor struct {
	mu     sync.RWMutex
	values []string
}

// Add makes the redactor look for v from now on, as it is and in base64, the
// form in which Kubernetes prints it.
func (r *Redactor) Add(v secrets.Value) {
	text := v.RevealString()
	if len(text) < minSecret {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, form := range []string{text, base64.StdEncoding.EncodeToString(v.Reveal()), base64.StdEncoding.EncodeToString([]byte(text))} {
		if !slices.Contains(r.values, form) {
			r.values = append(r.values, form)
		}
	}
	// The longest first: a value may be part of another one.
	slices.SortFunc(r.values, func(a, b string) int { return len(b) - len(a) })
}

// Watch makes the redactor look for every value that r resolves from now on.
func (r *Redactor) Watch(resolver secrets.Resolver) secrets.Resolver {
	return watched{resolver, r}
}

type watched struct {
	next secrets.Resolver
	r    *Redactor
}

// Resolve implements secrets.Resolver.
func (w watched) Resolve(ctx context.Context, ref secrets.Ref) (secrets.Value, error) {
	v, err := w.next.Resolve(ctx, ref)
	if err == nil {
		w.r.Add(v)
	}
	return v, err
}

// shapes are secrets that are known by their form.
var shapes = []*regexp.Regexp{
	// PEM, as text or inside JSON, where line ends are escaped.
	regexp.MustCompile(`(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(-----END [A-Z0-9 ]*PRIVATE KEY-----|$)`),
	// The same in base64, as Talos and kubeconfigs carry it; LS0tLS1CRUdJTi is
	// "-----BEGIN".
	regexp.MustCompile(`LS0tLS1CRUdJTi[A-Za-z0-9+/=]{40,}`),
	regexp.MustCompile(`eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}`), // JSON web tokens
	regexp.MustCompile(`(?i)\b(bearer|basic) +[A-Za-z0-9._~+/=-]{8,}`),
	regexp.MustCompile(`\b(AKIA|ASIA)[A-Z0-9]{16}\b`),   // AWS access keys
	regexp.MustCompile(`://[^/\s:@"]+:[^/\s@"]+@`),      // user and password of a URL
	regexp.MustCompile(`\b[a-z0-9]{6}\.[a-z0-9]{16}\b`), // tokens by which nodes join a cluster
}

// secretName matches the names of attributes that promise a secret.
var secretName = regexp.MustCompile(`(?i)(password|passwd|secret|token|authorization|api_?key|private_?key|access_?key|kubeconfig|talosconfig|credential|user_?data|machine_?config)`)

// Text returns s without secrets.
func (r *Redactor) Text(s string) string {
	r.mu.RLock()
	for _, v := range r.values {
		s = strings.ReplaceAll(s, v, redacted)
	}
	r.mu.RUnlock()
	for _, shape := range shapes {
		s = shape.ReplaceAllString(s, redacted)
	}
	return s
}

// replace is slog's hook for every attribute, the message included.
func (r *Redactor) replace(_ []string, a slog.Attr) slog.Attr {
	switch a.Value.Kind() {
	case slog.KindString:
		text := a.Value.String()
		if secretName.MatchString(a.Key) && secrets.Ref(text).Validate() != nil && text != "" {
			return slog.String(a.Key, redacted)
		}
		a.Value = slog.StringValue(r.Text(text))
	case slog.KindAny:
		a.Value = r.any(a.Key, a.Value)
	case slog.KindBool, slog.KindDuration, slog.KindFloat64, slog.KindInt64, slog.KindTime, slog.KindUint64, slog.KindGroup, slog.KindLogValuer:
		// Numbers and times hold no secret; the rest is never passed here.
	}
	return a
}

func (r *Redactor) any(key string, v slog.Value) slog.Value {
	switch x := v.Any().(type) {
	case nil, *slog.Source, slog.Level:
		return v
	case error:
		return slog.StringValue(r.Text(x.Error()))
	case fmt.Stringer:
		return slog.StringValue(r.Text(x.String()))
	}
	if secretName.MatchString(key) {
		return slog.StringValue(redacted)
	}
	// Both handlers' own renderings are looked at; a value that is clean in both
	// keeps its structure.
	text := fmt.Sprintf("%+v", v.Any())
	if b, ok := v.Any().([]byte); ok {
		text = string(b)
	}
	body, err := json.Marshal(v.Any())
	if clean := r.Text(text); clean != text || err != nil || r.Text(string(body)) != string(body) {
		return slog.StringValue(clean)
	}
	return v
}
