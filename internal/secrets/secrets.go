// Package secrets has the two forms in which Ichor handles secrets: a Ref says
// where a secret lives and may travel anywhere; a Value holds one and travels
// nowhere: it prints as redacted and refuses to be marshalled.
package secrets

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
)

// Ref names a secret without holding it. Forms: "env:NAME", "file:/path",
// "kube:namespace/name#key", "store:key".
type Ref string

// Scheme returns the part before the first colon, "" when there is none.
func (r Ref) Scheme() string {
	scheme, _, ok := strings.Cut(string(r), ":")
	if !ok {
		return ""
	}
	return scheme
}

// Path returns the part after the first colon.
func (r Ref) Path() string {
	_, path, _ := strings.Cut(string(r), ":")
	return path
}

// Validate reports why r is not a usable reference. The error never repeats
// the text: people paste secrets where references belong.
func (r Ref) Validate() error {
	if r == "" {
		return errors.New("is empty; use env:NAME, file:/path, kube:namespace/name#key or store:key")
	}
	switch r.Scheme() {
	case "env", "file", "store":
		if r.Path() == "" {
			return fmt.Errorf("names nothing after %q", r.Scheme()+":")
		}
	case "kube":
		nsName, key, ok := strings.Cut(r.Path(), "#")
		ns, name, ok2 := strings.Cut(nsName, "/")
		if !ok || !ok2 || key == "" || ns == "" || name == "" {
			return errors.New("must have the form kube:namespace/name#key")
		}
	default:
		return errors.New("is not a reference (its value is not repeated here); use env:NAME, file:/path, kube:namespace/name#key or store:key")
	}
	return nil
}

const redacted = "[redacted]"

// Value holds a secret in memory.
type Value struct{ b []byte }

// NewValue takes ownership of b.
func NewValue(b []byte) Value { return Value{b: b} }

// Reveal returns the secret. Call it only where the bytes are used at once.
func (v Value) Reveal() []byte { return v.b }

// RevealString returns the secret as text without surrounding white space, the
// form in which tokens are kept in files.
func (v Value) RevealString() string { return strings.TrimSpace(string(v.b)) }

// Empty reports whether there is no secret.
func (v Value) Empty() bool { return len(v.b) == 0 }

// String never returns the secret.
func (v Value) String() string { return redacted }

// GoString never returns the secret.
func (v Value) GoString() string { return redacted }

// Format never prints the secret, whatever the verb.
func (v Value) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// LogValue never logs the secret.
func (v Value) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText refuses: a Value must not reach JSON, YAML or workflow history.
func (v Value) MarshalText() ([]byte, error) {
	return nil, errors.New("secrets.Value cannot be marshalled; pass a reference")
}

// MarshalJSON refuses for the same reason.
func (v Value) MarshalJSON() ([]byte, error) {
	return nil, errors.New("secrets.Value cannot be marshalled; pass a reference")
}

// Resolver turns references into values. Errors have kind NotFound when the
// reference names nothing, Invalid when it is malformed, Unavailable or
// Unauthorized when the place it names cannot be read.
type Resolver interface {
	Resolve(ctx context.Context, ref Ref) (Value, error)
}
