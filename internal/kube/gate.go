package kube

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/ext"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/plan"
)

const (
	// gateCost bounds one evaluation, in CEL's own units: as much as Kubernetes
	// allows one expression of an admission policy
	// (k8s.io/apiserver/pkg/apis/cel.PerCallLimit).
	gateCost = 1_000_000
	// gateLength bounds the text of an expression, in bytes; cost counts only
	// what runs.
	gateLength = 16 << 10
	// gateNames is how many objects a message names.
	gateNames = 5
)

// Gate evaluates a user's health gate. It is nil when the gate holds: an
// expression is true for each selected object, or a URL answers as wanted. A
// selection without objects does not hold, since it would guard nothing. Errors:
// NotYet saying what does not hold, also while a field that the expression reads
// is absent, as fields of a status are at first; Invalid when the gate itself is
// wrong: neither or both kinds, an expression that does not compile, is no
// condition or fails, a resource that the API does not serve.
func (c *Client) Gate(ctx context.Context, g plan.Gate) error {
	op := "gate " + g.Name
	switch {
	case g.URL != "" && (g.Expression != "" || g.Resource != ""):
		return fault.New(fault.Invalid, op, "it has both an expression and a URL")
	case g.URL != "":
		return httpGate(ctx, op, g)
	case g.Expression == "" || g.Resource == "":
		return fault.New(fault.Invalid, op, "it needs a resource and an expression, or a URL")
	}
	program, err := compile(op, g.Expression)
	if err != nil {
		return err
	}
	objects, err := c.selected(ctx, op, g)
	if err != nil {
		return err
	}
	if len(objects) == 0 {
		return fault.New(fault.NotYet, op, "no object of %s is selected, so it would guard nothing", g.Resource)
	}
	var failing []string
	for i := range objects {
		why, err := evaluate(ctx, op, program, &objects[i])
		if err != nil {
			return err
		}
		if why != "" {
			failing = append(failing, why)
		}
	}
	if len(failing) == 0 {
		return nil
	}
	slices.Sort(failing)
	names := strings.Join(failing[:min(len(failing), gateNames)], "; ")
	if more := len(failing) - gateNames; more > 0 {
		names += fmt.Sprintf(" and %d more", more)
	}
	return fault.New(fault.NotYet, op, "%d of %d objects do not pass: %s", len(failing), len(objects), names)
}

// compile checks an expression over `object`.
func compile(op, expression string) (cel.Program, error) {
	if len(expression) > gateLength {
		return nil, fault.New(fault.Invalid, op, "the expression is longer than %d bytes", gateLength)
	}
	env, err := cel.NewEnv(cel.Variable("object", cel.DynType), cel.OptionalTypes(), ext.Strings(), ext.Lists(), ext.Sets(), ext.Math())
	if err != nil {
		return nil, fault.Wrap(fault.Internal, op, err)
	}
	ast, issues := env.Compile(expression)
	if issues.Err() != nil {
		return nil, fault.New(fault.Invalid, op, "the expression does not compile: %s", issues.Err())
	}
	if t := ast.OutputType(); !t.IsExactType(cel.BoolType) && !t.IsExactType(cel.DynType) {
		return nil, fault.New(fault.Invalid, op, "the expression gives %s, not true or false", t)
	}
	program, err := env.Program(ast, cel.CostLimit(gateCost), cel.InterruptCheckFrequency(1000))
	if err != nil {
		return nil, fault.New(fault.Invalid, op, "the expression cannot be run: %s", err)
	}
	return program, nil
}

// evaluate says why an object does not pass; empty when it does.
func evaluate(ctx context.Context, op string, program cel.Program, obj *unstructured.Unstructured) (string, error) {
	name := obj.GetName()
	if obj.GetNamespace() != "" {
		name = obj.GetNamespace() + "/" + name
	}
	out, _, err := program.ContextEval(ctx, map[string]any{"object": obj.Object})
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return "", fault.Wrap(fault.Unavailable, op, ctx.Err())
	case strings.HasPrefix(err.Error(), "no such key"), strings.HasPrefix(err.Error(), "index out of bounds"):
		return name + " (" + quiet(obj, err) + ")", nil
	default:
		return "", fault.New(fault.Invalid, op, "the expression fails for %s: %s", name, quiet(obj, err))
	}
	passed, ok := out.Value().(bool)
	if !ok {
		return "", fault.New(fault.Invalid, op, "the expression gives %s for %s, not true or false", out.Type().TypeName(), name)
	}
	if !passed {
		return name, nil
	}
	return "", nil
}

// quiet is an error's text, unless it may quote a secret: conversions quote what
// they cannot convert.
func quiet(obj *unstructured.Unstructured, err error) string {
	if obj.GetKind() == "Secret" {
		return "the reason may contain a secret and is not repeated"
	}
	return err.Error()
}

// selected lists the objects that a gate looks at.
func (c *Client) selected(ctx context.Context, op string, g plan.Gate) ([]unstructured.Unstructured, error) {
	resource, namespaced, err := c.gateResource(op, g.Resource)
	if err != nil {
		return nil, err
	}
	if _, err := labels.Parse(g.Selector); err != nil {
		return nil, fault.New(fault.Invalid, op, "the selector cannot be read: %s", err)
	}
	var objects dynamic.ResourceInterface = c.dynamic.Resource(resource)
	switch {
	case !namespaced && g.Namespace != "":
		return nil, fault.New(fault.Invalid, op, "%s has no namespaces", g.Resource)
	case namespaced && g.Namespace == "" && g.ObjectName != "":
		return nil, fault.New(fault.Invalid, op, "an object of %s is named by its namespace, too", g.Resource)
	case namespaced && g.Namespace != "":
		objects = c.dynamic.Resource(resource).Namespace(g.Namespace)
	}
	if g.ObjectName == "" {
		list, err := objects.List(ctx, metav1.ListOptions{LabelSelector: g.Selector})
		if err != nil {
			return nil, apiError(op, err)
		}
		return list.Items, nil
	}
	if g.Selector != "" {
		return nil, fault.New(fault.Invalid, op, "it has both a selector and an object's name")
	}
	obj, err := objects.Get(ctx, g.ObjectName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, fault.New(fault.NotYet, op, "%s %s does not exist", g.Resource, g.ObjectName)
	}
	if err != nil {
		return nil, apiError(op, err)
	}
	return []unstructured.Unstructured{*obj}, nil
}

// gateResource reads "apps/v1/deployments" or "v1/pods" and asks the API whether
// it serves that.
func (c *Client) gateResource(op, text string) (gvr schema.GroupVersionResource, namespaced bool, err error) {
	parts := strings.Split(text, "/")
	if len(parts) < 2 || len(parts) > 3 || slices.Contains(parts, "") {
		return gvr, false, fault.New(fault.Invalid, op, `the resource %q is not of the form "apps/v1/deployments" or "v1/pods"`, text)
	}
	version := strings.Join(parts[:len(parts)-1], "/")
	gv, err := schema.ParseGroupVersion(version)
	if err != nil {
		return gvr, false, fault.New(fault.Invalid, op, "the resource %q cannot be read", text)
	}
	served, err := c.all.Discovery().ServerResourcesForGroupVersion(version)
	if apierrors.IsNotFound(err) {
		return gvr, false, fault.New(fault.Invalid, op, "the API does not serve %s", version)
	}
	if err != nil {
		return gvr, false, apiError(op, err)
	}
	name := parts[len(parts)-1]
	i := slices.IndexFunc(served.APIResources, func(r metav1.APIResource) bool { return r.Name == name })
	if i < 0 {
		return gvr, false, fault.New(fault.Invalid, op, "the API serves no %s in %s", name, version)
	}
	return gv.WithResource(name), served.APIResources[i].Namespaced, nil
}
