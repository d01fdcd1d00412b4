package aws

import (
	"context"
	"errors"
	"net"
	"time"

	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/ichor-project/ichor/internal/fault"
)

// Times that bound one call. The API publishes none; a full page of instances
// takes a few seconds, and deletions answer before they are done.
const (
	readTimeout   = 20 * time.Second
	changeTimeout = 30 * time.Second
)

// request is one call: what it is in words, the action's name, what it does, and
// until when it may be sent (zero: always).
type request struct {
	op     string
	action string
	verb   verb
	sendBy time.Time
	// bulk calls have a rate limit of their own.
	bulk bool
}

// call runs f, which makes one HTTP exchange, and gives its error a kind.
func (p *Provider) call(ctx context.Context, r request, f func(context.Context) error) error {
	g := p.gate
	if r.bulk {
		g = p.bulk
	}
	if err := g.wait(ctx, r); err != nil {
		return err
	}
	timeout := readTimeout
	switch r.verb {
	case create:
		timeout = p.settings.CreateTimeout
	case change, remove:
		timeout = changeTimeout
	case read:
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := p.signed(ctx, r.op); err != nil {
		return err
	}
	if !r.sendBy.IsZero() && p.now().Round(0).After(r.sendBy) {
		return fault.New(fault.Unavailable, r.op, "not sent: this attempt is too old, somebody else may have taken over")
	}
	ex := &exchange{}
	err := classify(r.op, r.verb, f(withExchange(ctx, ex)), ex)
	g.note(r.action, err)
	return err
}

// signed makes sure that there are credentials to sign with. They are cached by
// the SDK; without this, missing ones would look like a network that is down.
func (p *Provider) signed(ctx context.Context, op string) error {
	_, err := p.credentials.Retrieve(ctx)
	if err == nil {
		return nil
	}
	var answer *smithyhttp.ResponseError
	var dial net.Error
	switch {
	case errors.As(err, &answer) && answer.HTTPStatusCode() < 500 && answer.HTTPStatusCode() != 429:
	case errors.As(err, &answer), errors.As(err, &dial), ctx.Err() != nil:
		return &fault.Error{Kind: fault.Unavailable, Op: op, Message: "not sent: the source of the credentials does not answer"}
	}
	return &fault.Error{Kind: fault.Unauthorized, Op: op, Message: "not sent: the SDK's chain of credential sources gave none that can be used"}
}
