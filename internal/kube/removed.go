package kube

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/cosi-project/runtime/pkg/state"
	"github.com/siderolabs/go-kubernetes/kubernetes/upgrade"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/client-go/rest"

	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/plan"
)

// RemovedAPIs returns which APIs are in use that Kubernetes version to does not
// serve any more, sorted: objects, by the tables of go-kubernetes, and what somebody
// has asked for since the API server that answers was started, which it counts
// itself; and steps that no upgrade takes. What components are started with is
// RemovedFlags' part. Error: Invalid when a version cannot be read.
func (c *Client) RemovedAPIs(ctx context.Context, from, to string) ([]plan.Refusal, error) {
	const op = "look for removed Kubernetes APIs"
	w, err := wayOf(op, from, to)
	if err != nil {
		return nil, err
	}
	if w.refused != nil {
		return []plan.Refusal{*w.refused}, nil
	}
	var out []plan.Refusal
	if len(w.steps) > 0 {
		for _, step := range w.steps {
			found, err := c.removedBy(ctx, step)
			if err != nil {
				return nil, err
			}
			out = append(out, found...)
		}
		asked, err := c.deprecatedRequests(ctx, w.from, w.to)
		if err != nil {
			return nil, err
		}
		out = append(out, asked...)
	}
	slices.SortFunc(out, func(a, b plan.Refusal) int {
		return cmp.Or(strings.Compare(a.Field, b.Field), strings.Compare(a.Reason, b.Reason))
	})
	return slices.Compact(out), nil
}

// way is how one version of Kubernetes comes to another.
type way struct {
	from, to *version.Version // of minors
	steps    []*upgrade.Path
	refused  *plan.Refusal // when there is no way, and no steps then
}

// wayOf reads two versions and finds the way between them. Error: Invalid when a
// version cannot be read.
func wayOf(op, from, to string) (way, error) {
	first, err := minorOf(op, from)
	if err != nil {
		return way{}, err
	}
	last, err := minorOf(op, to)
	if err != nil {
		return way{}, err
	}
	steps, refused := pathOf(first, last)
	return way{from: first, to: last, steps: steps, refused: refused}, nil
}

// minorOf reads a version and keeps major and minor.
func minorOf(op, text string) (*version.Version, error) {
	v, err := version.ParseGeneric(text)
	if err != nil {
		return nil, fault.New(fault.Invalid, op, "%q is not a version of Kubernetes", text)
	}
	return version.MajorMinor(v.Major(), v.Minor()), nil
}

// pathOf lists the steps of one minor each, or says why there is no way. No
// step is needed between patches of one minor.
func pathOf(from, to *version.Version) ([]*upgrade.Path, *plan.Refusal) {
	if to.LessThan(from) || to.Major() != from.Major() {
		return nil, &plan.Refusal{Field: "kubernetes", Reason: fmt.Sprintf("there is no way from %s to %s", from, to)}
	}
	var out []*upgrade.Path
	for v := from; v.LessThan(to); {
		next := version.MajorMinor(v.Major(), v.Minor()+1)
		path, err := upgrade.NewPath(v.String()+".0", next.String()+".0")
		if err != nil || !path.IsSupported() {
			return nil, &plan.Refusal{Field: "kubernetes", Reason: fmt.Sprintf("the step from %s to %s is not known to this version of Ichor", v, next)}
		}
		out = append(out, path)
		v = next
	}
	return out, nil
}

// removedBy runs go-kubernetes' checks for one step, without any node.
func (c *Client) removedBy(ctx context.Context, step *upgrade.Path) ([]plan.Refusal, error) {
	const op = "check for what Kubernetes removes"
	none := func(context.Context, string) (state.State, error) { return nil, nil }
	checks, err := upgrade.NewChecksWithStateProvider(step, none, rest.CopyConfig(c.config), nil, nil, func(string, ...any) {})
	if err != nil {
		return nil, fault.Wrap(fault.Internal, op, err)
	}
	err = checks.Run(ctx)
	var found upgrade.ComponentRemovedItemsError
	if !errors.As(err, &found) {
		return nil, apiError(op, err)
	}
	var out []plan.Refusal
	for resource, count := range found.APIResources {
		out = append(out, plan.Refusal{Field: resource, Reason: fmt.Sprintf(
			"%d objects exist, and Kubernetes %s does not serve this API any more: convert or delete them", count, minorText(step.ToVersion()))})
	}
	return out, nil
}

// minorText shortens "1.37.0" to "1.37".
func minorText(v string) string { return v[:strings.LastIndex(v, ".")] }

// deprecatedMetric counts requests of deprecated APIs since the API server
// started. Its label removed_release is the first minor that does not serve the
// API (KEP-1693).
const deprecatedMetric = "apiserver_requested_deprecated_apis"

var metricLabel = regexp.MustCompile(`([a-z_]+)="((?:[^"\\]|\\.)*)"`)

// deprecatedRequests reads which APIs somebody uses that go after a version, up to
// another.
// With several API servers it is the count of the one that answers.
func (c *Client) deprecatedRequests(ctx context.Context, from, to *version.Version) ([]plan.Refusal, error) {
	body, err := c.rest.Get().AbsPath("/metrics").Do(ctx).Raw()
	if err != nil {
		return nil, apiError("read the metrics of the Kubernetes API", err)
	}
	var out []plan.Refusal
	lines := bufio.NewScanner(bytes.NewReader(body))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		rest, ours := strings.CutPrefix(lines.Text(), deprecatedMetric+"{")
		if !ours {
			continue
		}
		labels := map[string]string{}
		for _, m := range metricLabel.FindAllStringSubmatch(rest, -1) {
			labels[m[1]] = m[2]
		}
		removed, err := version.ParseGeneric(labels["removed_release"])
		if err != nil || to.LessThan(removed) || !from.LessThan(removed) {
			continue // never to be removed, or in another step
		}
		resource := labels["resource"]
		if labels["subresource"] != "" {
			resource += "/" + labels["subresource"]
		}
		out = append(out, plan.Refusal{
			Field: strings.TrimSuffix(resource+"."+labels["version"]+"."+labels["group"], "."),
			Reason: fmt.Sprintf("somebody uses this API, which Kubernetes %s does not serve any more: "+
				"move its users to a newer version of it (seen since the API server was started; restart it after the use has ended)", removed),
		})
	}
	if err := lines.Err(); err != nil {
		return nil, fault.Wrap(fault.Unavailable, "read the metrics of the Kubernetes API", err)
	}
	return out, nil
}
