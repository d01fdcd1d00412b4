package aws

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"

	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/ichor-project/ichor/internal/fault"
)

// Times that bound one call. The API publishes none; a full page of instances
// takes a few seconds, and deletions answer before they are done.
const (
	readTimeout   = 20 * time.Second
	changeTimeout = 30 * time.Second
)

// services are the prefixes of actions by the SDK's service ids.
var services = map[string]string{
	"EC2": "ec2", "Elastic Load Balancing v2": "elasticloadbalancing", "EBS": "ebs", "STS": "sts",
}

// action names the call that a request of the SDK belongs to as policies do:
// "ec2:RunInstances".
func action(r *http.Request) string {
	service := awsmiddleware.GetServiceID(r.Context())
	if s, ok := services[service]; ok {
		service = s
	}
	return service + ":" + awsmiddleware.GetOperationName(r.Context())
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
