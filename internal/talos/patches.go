package talos

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/blang/semver/v4"
	"github.com/siderolabs/talos/pkg/machinery/config"
	"github.com/siderolabs/talos/pkg/machinery/config/configloader"
	"github.com/siderolabs/talos/pkg/machinery/config/configpatcher"
	"go.yaml.in/yaml/v4"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
)

// Problem is something wrong with a field of the spec. Its message never holds
// the text of a patch.
type Problem struct {
	Field   string
	Message string
}

// PatchSet is the patches of one kind of node, in the order of application.
type PatchSet struct {
	Role  cluster.Role
	Group string // of workers
	// Patches in order: all nodes, role, group.
	Patches []Patch
}

// ValidatePatches renders a config for each kind of node with throwaway keys and
// returns what is wrong with the patches, and with labels and versions as far as
// they go into a config. No problems: every real config will render. The error
// is for failures that are not the spec's.
func ValidatePatches(name string, spec cluster.Spec, sets []PatchSet) ([]Problem, error) {
	contract := spec.Talos.Contract
	if contract == "" {
		c, err := Contract(spec.Talos.Version)
		if err != nil {
			return []Problem{{Field: "spec.talos.version", Message: messageOf(err)}}, nil
		}
		contract = c
	}
	bundle, err := NewBundle(contract, time.Unix(0, 0))
	if fault.Is(err, fault.Invalid) {
		return []Problem{{Field: "spec.talos.contract", Message: messageOf(err)}}, nil
	} else if err != nil {
		return nil, err
	}
	var out []Problem
	for _, set := range sets {
		problem, err := trial(name, spec, contract, bundle, set)
		if err != nil {
			return nil, err
		}
		if problem != nil && !slices.Contains(out, *problem) {
			out = append(out, *problem)
		}
	}
	return out, nil
}

// trial renders one kind of node.
func trial(name string, spec cluster.Spec, contract string, bundle secrets.Value, set PatchSet) (*Problem, error) {
	req := RenderRequest{
		Bundle: bundle, Cluster: cluster.Ref{Name: name}, Spec: spec, Frozen: cluster.Frozen{Contract: contract},
		Endpoint: "https://endpoint.invalid:6443", Role: set.Role, Group: set.Group, NodeName: "check",
	}
	fromFault := func(err error) (*Problem, error) {
		if !fault.Is(err, fault.Invalid) {
			return nil, err
		}
		field, message, ok := strings.Cut(messageOf(err), ": ")
		if !ok || !strings.HasPrefix(field, "spec.") {
			field, message = "spec", messageOf(err)
		}
		return &Problem{Field: field, Message: message}, nil
	}
	talos, err := req.talosVersion()
	if err != nil {
		return fromFault(err)
	}
	base, err := req.base()
	if err != nil {
		return fromFault(err)
	}
	parsed, err := req.contract(talos)
	if err != nil {
		return fromFault(err)
	}
	id, err := req.identity(parsed)
	if err != nil {
		return fromFault(err)
	}
	_, problem := assemble(base, set.Patches, id, talos)
	return problem, nil
}

// messageOf returns the message of a fault without its operation.
func messageOf(err error) string {
	var f *fault.Error
	if errors.As(err, &f) && f.Message != "" {
		return f.Message
	}
	return err.Error()
}

// assemble applies patches and identity in order and validates the whole. A
// patch is blamed for an invalid result if the config was valid before it and
// never again after it.
func assemble(base config.Provider, patches []Patch, id identity, talos semver.Version) (config.Provider, *Problem) {
	cfg := base
	stages := make([]config.Provider, 0, len(patches))
	for _, p := range patches {
		next, problem := applyPatch(cfg, p, talos)
		if problem != nil {
			return nil, problem
		}
		cfg = next
		stages = append(stages, cfg)
	}
	whole, message := id.complete(cfg)
	if message == "" {
		return whole, nil
	}
	blame := Problem{Field: id.field, Message: message}
	for i := len(stages) - 1; i >= 0; i-- {
		_, was := id.complete(stages[i])
		if was == "" {
			break
		}
		blame = Problem{Field: patches[i].Field, Message: was}
	}
	if _, was := id.complete(base); was != "" {
		blame = Problem{Field: id.field, Message: was}
	}
	return nil, &blame
}

// complete applies the identity and validates; the message is empty when the
// result is a config that a node accepts.
func (id identity) complete(cfg config.Provider) (config.Provider, string) {
	whole, err := id.apply(cfg)
	if err != nil {
		return nil, explain(err)
	}
	return whole, validate(whole)
}

func applyPatch(cfg config.Provider, p Patch, talos semver.Version) (config.Provider, *Problem) {
	fail := func(format string, args ...any) *Problem {
		return &Problem{Field: p.Field, Message: fmt.Sprintf(format, args...)}
	}
	if trimmed := bytes.TrimSpace(p.Body); bytes.HasPrefix(trimmed, []byte("[")) || bytes.HasPrefix(trimmed, []byte("- ")) {
		return nil, fail("is a list; JSON patches cannot change configs of several documents, write a strategic merge patch")
	}
	patch, err := configloader.NewFromBytes(p.Body, configloader.WithAllowPatchDelete(), configloader.WithNoValidation())
	if errors.Is(err, configloader.ErrNoConfig) {
		return nil, fail("is empty")
	}
	if err != nil {
		return nil, fail("is not a config patch: %s", explain(err))
	}
	for _, doc := range patch.Documents() {
		if _, deletes := doc.(configloader.Selector); !deletes && !kindKnown(doc.Kind(), talos) {
			return nil, fail("document %s needs Talos v1.14, the cluster runs v%s", doc.Kind(), talos)
		}
	}
	out, err := configpatcher.StrategicMerge(cfg, configpatcher.NewStrategicMergePatch(patch))
	if err != nil {
		return nil, fail("cannot be applied: %s", explain(err))
	}
	return out, nil
}

// cloudMode is how nodes run that boot an installed image.
type cloudMode struct{}

func (cloudMode) String() string        { return "cloud" }
func (cloudMode) RequiresInstall() bool { return false }
func (cloudMode) InContainer() bool     { return false }

// validate returns why a node would refuse a config, or nothing.
func validate(cfg config.Provider) string {
	if _, err := cfg.ValidateAsClient(cloudMode{}); err != nil {
		return explain(err)
	}
	return ""
}

const unknownKeys = "unknown keys found during decoding:"

var (
	countOfErrors = regexp.MustCompile(`\d+ errors? occurred:`)
	documentAt    = regexp.MustCompile(`(?:error decoding )?document \S*/.*? \(line (\d+)\)`)
	quoted        = regexp.MustCompile("\"(?:[^\"\\\\]|\\\\.)*\"|`[^`]*`|'[^']*'")
)

// explain puts an error of machinery into one line that is safe to show.
// Machinery quotes what it does not like, and that may be a secret: quoted text
// and the values of unknown keys are left out.
func explain(err error) string { return explainText(err.Error()) }

// diffFollows is what Talos before 1.14 writes before it shows how two configs
// differ.
const diffFollows = "\ndiff:"

func explainText(text string) string {
	text, _, _ = strings.Cut(text, diffFollows)
	head, tail, unknown := strings.Cut(text, unknownKeys)
	text = countOfErrors.ReplaceAllString(head, "")
	var parts []string
	for line := range strings.Lines(text) {
		if line = strings.TrimPrefix(strings.TrimSpace(line), "* "); line != "" {
			parts = append(parts, line)
		}
	}
	text = strings.ReplaceAll(strings.Join(parts, "; "), ":; ", ": ")
	if strings.HasSuffix(text, "not registered") {
		text = documentAt.FindString(text) + ": Talos has no such kind of document"
	}
	text = documentAt.ReplaceAllString(quoted.ReplaceAllString(text, "…"), "document at line $1")
	if unknown {
		text = strings.TrimSuffix(strings.TrimSpace(text), ":") + ": unknown fields " + strings.Join(keyPaths(tail), ", ")
	}
	return text
}

// keyPaths lists the leaf keys of a YAML document, without values.
func keyPaths(doc string) []string {
	var tree any
	if yaml.Unmarshal([]byte(doc), &tree) != nil {
		return []string{"(not shown)"}
	}
	var out []string
	var walk func(path string, node any)
	walk = func(path string, node any) {
		switch n := node.(type) {
		case map[string]any:
			for key, value := range n {
				walk(strings.TrimPrefix(path+"."+key, "."), value)
			}
			if len(n) > 0 {
				return
			}
		case []any:
			for _, value := range n {
				walk(path+"[]", value)
			}
			if len(n) > 0 {
				return
			}
		}
		if path != "" && !slices.Contains(out, path) {
			out = append(out, path)
		}
	}
	walk("", tree)
	slices.Sort(out)
	return out
}
