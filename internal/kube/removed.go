package kube

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/cosi-project/runtime/pkg/state"
	"github.com/cosi-project/runtime/pkg/state/impl/inmem"
	"github.com/cosi-project/runtime/pkg/state/impl/namespaced"
	"github.com/siderolabs/go-kubernetes/kubernetes/upgrade"
	"github.com/siderolabs/talos/pkg/machinery/resources/k8s"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/client-go/rest"

	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/plan"
)

// RemovedAPIs returns what is in use and will not work any more in Kubernetes
// version to, sorted: steps that no upgrade takes; flags, feature gates and
// admission plugins of the control planes' static pods, and objects of removed
// APIs, by the tables of go-kubernetes; and APIs that somebody has asked for since
// the API server that answers was started, which it counts itself. Flags of
// kubelets are not visible here. Error: Invalid when a version cannot be read.
func (c *Client) RemovedAPIs(ctx context.Context, from, to string) ([]plan.Refusal, error) {
	const op = "look for removed Kubernetes APIs"
	first, err := minorOf(op, from)
	if err != nil {
		return nil, err
	}
	last, err := minorOf(op, to)
	if err != nil {
		return nil, err
	}
	steps, refused := pathOf(first, last)
	if refused != nil {
		return []plan.Refusal{*refused}, nil
	}
	var out []plan.Refusal
	if len(steps) > 0 {
		states, err := c.staticPods(ctx)
		if err != nil {
			return nil, err
		}
		for _, step := range steps {
			found, err := c.removedBy(ctx, step, states)
			if err != nil {
				return nil, err
			}
			out = append(out, found...)
		}
		asked, err := c.deprecatedRequests(ctx, first, last)
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

// controlPlane are the static pods of which the checks read the flags.
var controlPlane = []string{k8s.APIServerID, k8s.ControllerManagerID, k8s.SchedulerID}

// staticPods reads the static pods of all nodes, as their mirror pods show them,
// into the form in which the checks expect Talos's resources.
func (c *Client) staticPods(ctx context.Context) (map[string]state.State, error) {
	const op = "list static pods"
	list, err := c.core.Pods(metav1.NamespaceSystem).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, apiError(op, err)
	}
	out := map[string]state.State{}
	for i := range list.Items {
		p := &list.Items[i]
		component := strings.TrimSuffix(p.Name, "-"+p.Spec.NodeName)
		_, mirror := p.Annotations[corev1.MirrorPodAnnotationKey]
		if !mirror || !slices.Contains(controlPlane, component) || len(p.Spec.Containers) == 0 {
			continue
		}
		if out[p.Spec.NodeName] == nil {
			out[p.Spec.NodeName] = state.WrapCore(namespaced.NewState(inmem.Build))
		}
		// The checks read the command of the first container only.
		command := slices.Concat(p.Spec.Containers[0].Command, p.Spec.Containers[0].Args)
		resource := k8s.NewStaticPod(k8s.NamespaceName, component)
		resource.TypedSpec().Pod = map[string]any{"spec": map[string]any{"containers": []any{map[string]any{"command": command}}}}
		if err := out[p.Spec.NodeName].Create(ctx, resource); err != nil {
			return nil, fault.Wrap(fault.Internal, op, err)
		}
	}
	return out, nil
}

// removedBy runs go-kubernetes' checks for one step.
func (c *Client) removedBy(ctx context.Context, step *upgrade.Path, states map[string]state.State) ([]plan.Refusal, error) {
	const op = "check for what Kubernetes removes"
	provide := func(_ context.Context, node string) (state.State, error) { return states[node], nil }
	config := rest.CopyConfig(c.config)
	nodes := slices.Sorted(maps.Keys(states))
	checks, err := upgrade.NewChecksWithStateProvider(step, provide, config, nodes, nil, func(string, ...any) {})
	if err != nil {
		return nil, fault.Wrap(fault.Internal, op, err)
	}
	err = checks.Run(ctx)
	var found upgrade.ComponentRemovedItemsError
	if !errors.As(err, &found) {
		return nil, apiError(op, err)
	}
	var out []plan.Refusal
	add := func(items []upgrade.ComponentItem, what string) {
		for _, item := range items {
			out = append(out, plan.Refusal{Field: item.Node, Reason: fmt.Sprintf(
				"%s uses the %s %s, which Kubernetes %s has no more", item.Component, what, item.Value, minorText(step.ToVersion()))})
		}
	}
	add(found.CLIFlags, "flag")
	add(found.FeatureGates, "feature gate")
	add(found.AdmissionFlags, "admission plugin")
	for resource, count := range found.APIResources {
		out = append(out, plan.Refusal{Field: resource, Reason: fmt.Sprintf(
			"%d objects exist, and Kubernetes %s does not serve this API any more", count, minorText(step.ToVersion()))})
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
			Reason: fmt.Sprintf("somebody uses this API, which Kubernetes %s does not serve any more "+
				"(seen since the API server was started; restart it after the use has ended)", removed),
		})
	}
	if err := lines.Err(); err != nil {
		return nil, fault.Wrap(fault.Unavailable, "read the metrics of the Kubernetes API", err)
	}
	return out, nil
}
