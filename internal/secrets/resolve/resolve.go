// Package resolve turns references to secrets into their values: env:NAME,
// file:/path, kube:namespace/name#key and store:key.
//
// References come from specs, and whoever may start a workflow writes specs.
// So what a reference may reach is limited: of the store only what was put
// there as a body or a named secret, never a PKI bundle or a record, and of the
// environment and the file system what Options allow.
package resolve

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
)

// maxSize bounds one secret; a Kubernetes Secret holds at most 1 MiB.
const maxSize = 1 << 20

// Objects is the part of the store that is needed.
type Objects interface {
	GetObject(ctx context.Context, key string) (secrets.Value, error)
}

// SecretReader reads one key of a Kubernetes Secret.
type SecretReader interface {
	ReadSecret(ctx context.Context, namespace, name, key string) (secrets.Value, error)
}

// Options say what references can reach. The zero value reaches environment
// variables and files.
type Options struct {
	// Objects answers store: references; without it they are refused.
	Objects Objects
	// Kube answers kube: references; without it they are refused. See NewKube.
	Kube SecretReader
	// EnvNames, when not nil, are the only environment variables that are read.
	EnvNames []string
	// FileRoots, when not nil, are the folders out of which files are read;
	// symbolic links may not lead outside.
	FileRoots []string
	// LookupEnv is os.LookupEnv by default.
	LookupEnv func(string) (string, bool)
}

// Resolver implements secrets.Resolver.
type Resolver struct{ o Options }

var _ secrets.Resolver = (*Resolver)(nil)

// New makes a resolver.
func New(o Options) *Resolver {
	if o.LookupEnv == nil {
		o.LookupEnv = os.LookupEnv
	}
	return &Resolver{o: o}
}

const op = "resolve a secret reference"

// Resolve returns the value that ref names. An empty value counts as absent:
// NotFound. Errors name the reference, never a value; a text that is no
// reference is not repeated, for it may be the secret itself.
func (r *Resolver) Resolve(ctx context.Context, ref secrets.Ref) (secrets.Value, error) {
	if err := ref.Validate(); err != nil {
		return secrets.Value{}, fault.New(fault.Invalid, op, "the reference %v", err)
	}
	v, err := r.read(ctx, ref)
	if err != nil {
		return secrets.Value{}, fault.Wrap(fault.KindOf(err), op+" "+string(ref), err)
	}
	if v.RevealString() == "" {
		return secrets.Value{}, fault.New(fault.NotFound, op+" "+string(ref), "it is empty")
	}
	return v, nil
}

func (r *Resolver) read(ctx context.Context, ref secrets.Ref) (secrets.Value, error) {
	switch ref.Scheme() {
	case "env":
		return r.env(ref.Path())
	case "file":
		return r.file(ref.Path())
	case "kube":
		if r.o.Kube == nil {
			return secrets.Value{}, fault.New(fault.Invalid, "", "this process has no access to a Kubernetes API")
		}
		nsName, key, _ := strings.Cut(ref.Path(), "#")
		namespace, name, _ := strings.Cut(nsName, "/")
		return r.o.Kube.ReadSecret(ctx, namespace, name, key)
	default: // store; Validate knows no other
		if r.o.Objects == nil {
			return secrets.Value{}, fault.New(fault.Invalid, "", "this process has no store")
		}
		if !public(ref.Path()) {
			return secrets.Value{}, fault.New(fault.Unsafe, "", "a reference may name secrets/… and clusters/NAME/bodies/… of the store, nothing else")
		}
		return r.o.Objects.GetObject(ctx, ref.Path())
	}
}

// public reports whether a spec may refer to an object of the store.
func public(key string) bool {
	parts := strings.Split(key, "/")
	return len(parts) > 1 && parts[0] == "secrets" ||
		len(parts) == 4 && parts[0] == "clusters" && parts[2] == "bodies"
}

func (r *Resolver) env(name string) (secrets.Value, error) {
	if r.o.EnvNames != nil && !slices.Contains(r.o.EnvNames, name) {
		return secrets.Value{}, fault.New(fault.Unsafe, "", "this process is not configured to read this environment variable for a spec")
	}
	text, ok := r.o.LookupEnv(name)
	if !ok {
		return secrets.Value{}, fault.New(fault.NotFound, "", "the environment variable is not set where the reference is resolved")
	}
	return secrets.NewValue([]byte(text)), nil
}

func (r *Resolver) file(name string) (secrets.Value, error) {
	if !filepath.IsAbs(name) {
		return secrets.Value{}, fault.New(fault.Invalid, "", "the path must be absolute: the file is read by another process than the one that reads the spec")
	}
	f, err := r.openFile(filepath.Clean(name))
	if err != nil {
		return secrets.Value{}, fileFault(err)
	}
	defer func() { _ = f.Close() }() // Opened for reading: closing loses nothing.
	info, err := f.Stat()
	if err != nil {
		return secrets.Value{}, fileFault(err)
	}
	if !info.Mode().IsRegular() {
		return secrets.Value{}, fault.New(fault.Invalid, "", "is not a regular file")
	}
	body, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return secrets.Value{}, fileFault(err)
	}
	if len(body) > maxSize {
		return secrets.Value{}, fault.New(fault.Invalid, "", "is larger than %d MiB", maxSize>>20)
	}
	return secrets.NewValue(body), nil
}

// openFile opens name, below one of the roots when there are any. Names that
// would block on opening (a pipe without a writer) are refused before.
func (r *Resolver) openFile(name string) (*os.File, error) {
	if r.o.FileRoots == nil {
		info, err := os.Stat(name)
		if err != nil {
			return nil, err
		}
		if !info.Mode().IsRegular() {
			return nil, fault.New(fault.Invalid, "", "is not a regular file")
		}
		return os.Open(name)
	}
	for _, folder := range r.o.FileRoots {
		rel, err := filepath.Rel(folder, name)
		if err != nil || !filepath.IsLocal(rel) {
			continue
		}
		root, err := os.OpenRoot(folder)
		if err != nil {
			return nil, err
		}
		f, err := openIn(root, rel)
		return f, errors.Join(err, root.Close())
	}
	return nil, fault.New(fault.Unsafe, "", "the file is outside the folders from which this process reads secrets for a spec")
}

func openIn(root *os.Root, rel string) (*os.File, error) {
	info, err := root.Stat(rel)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
		// os.Root has no error value of its own for a link that leads outside.
		return nil, fault.Wrap(fault.Unsafe, "", err)
	}
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fault.New(fault.Invalid, "", "is not a regular file")
	}
	return root.Open(rel)
}

func fileFault(err error) error {
	var f *fault.Error
	switch {
	case errors.As(err, &f):
		return f
	case errors.Is(err, fs.ErrNotExist):
		return fault.New(fault.NotFound, "", "there is no such file where the reference is resolved")
	case errors.Is(err, fs.ErrPermission):
		return fault.New(fault.Unauthorized, "", "the file may not be read")
	default:
		return fault.Wrap(fault.Unavailable, "", err)
	}
}
