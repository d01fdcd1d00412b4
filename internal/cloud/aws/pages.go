package aws

import (
	"context"

	sdk "github.com/aws/aws-sdk-go-v2/aws"

	"github.com/ichor-project/ichor/internal/cloud/exchange"
)

// pager reads the page that a token stands for, nil for the first, and says the
// token of the next one. It keeps nothing: it may be asked for a page again.
type pager[T any] func(ctx context.Context, token *string) (page []T, next *string, err error)

// pages reads a list to its end, each page one call, or fails: a part of a list
// would pass for all of it.
func pages[T any](ctx context.Context, p *Provider, op, action string, read pager[T]) ([]T, error) {
	var out []T
	for token := (*string)(nil); ; {
		var page []T
		var next *string // token is needed again if this page is
		err := p.calls.Call(ctx, exchange.Request{Op: op, Action: action}, func(ctx context.Context) (err error) {
			page, next, err = read(ctx, token)
			return err
		})
		if err != nil {
			return nil, err
		}
		out = append(out, page...)
		if token = next; sdk.ToString(token) == "" {
			return out, nil
		}
	}
}
