package main

import (
	"context"
	"errors"
	"fmt"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/contrib/envconfig"
	"go.temporal.io/sdk/temporal"

	"github.com/ichor-project/ichor/workflows"
)

// ensureSearchAttributes makes sure that the namespace knows Ichor's search
// attributes: without them every start of a workflow would fail. Only what is
// missing is added; an operator may have added them where workers may not.
func ensureSearchAttributes(ctx context.Context, c client.Client) error {
	opts, err := envconfig.LoadDefaultClientOptions()
	if err != nil {
		return err
	}
	namespace := opts.Namespace
	if namespace == "" {
		namespace = client.DefaultNamespace
	}
	have, err := c.OperatorService().ListSearchAttributes(ctx, &operatorservice.ListSearchAttributesRequest{Namespace: namespace})
	if err != nil {
		return fmt.Errorf("list search attributes: %w", err)
	}
	missing := map[string]enumspb.IndexedValueType{}
	for _, a := range []temporal.SearchAttributeKeyKeyword{workflows.AttrCluster, workflows.AttrPhase, workflows.AttrCloud, workflows.AttrKind} {
		if _, ok := have.GetCustomAttributes()[a.GetName()]; !ok {
			missing[a.GetName()] = enumspb.INDEXED_VALUE_TYPE_KEYWORD
		}
	}
	if len(missing) == 0 {
		return nil
	}
	_, err = c.OperatorService().AddSearchAttributes(ctx, &operatorservice.AddSearchAttributesRequest{Namespace: namespace, SearchAttributes: missing})
	var exists *serviceerror.AlreadyExists
	if err != nil && !errors.As(err, &exists) { // another worker was faster
		return fmt.Errorf("add search attributes: %w", err)
	}
	return nil
}
