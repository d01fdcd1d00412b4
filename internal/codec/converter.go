package codec

import (
	"context"
	"errors"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"
)

// ClientOptions wires encryption into a Temporal client: of values and of the
// messages and causes of errors. Every process of Ichor calls it, also without
// keys: it then writes clear payloads and takes care of what it cannot read.
func ClientOptions(o *client.Options, keys []Key) error {
	dc, err := DataConverter(keys)
	if err != nil {
		return err
	}
	o.DataConverter = dc
	o.FailureConverter = FailureConverter(dc, len(keys) > 0)
	return nil
}

// DataConverter is the SDK's own with compression and encryption. Replays of
// recorded histories and tools that print payloads use it directly.
func DataConverter(keys []Key) (converter.DataConverter, error) {
	codecs, err := Codecs(keys)
	if err != nil {
		return nil, err
	}
	if len(keys) == 0 {
		// Reading stays able to tell what is wrong; writing stays readable.
		codecs = codecs[:1]
	}
	return guard{inner: converter.NewCodecDataConverter(converter.GetDefaultDataConverter(), codecs...)}, nil
}

// FailureConverter encrypts messages and causes if asked to; without that they
// stand in the history in clear even when all payloads are encrypted.
func FailureConverter(dc converter.DataConverter, encrypt bool) converter.FailureConverter {
	return temporal.NewDefaultFailureConverter(temporal.DefaultFailureConverterOptions{
		DataConverter:          dc,
		EncodeCommonAttributes: encrypt,
	})
}

// guard keeps a worker with wrong keys from doing harm. By default a workflow
// whose input cannot be decoded fails for good, and a signal that cannot be
// decoded is dropped. A panic instead fails only the workflow task, which the
// server offers again until a worker with the right keys takes it.
type guard struct {
	inner      converter.DataConverter
	inWorkflow bool
}

var (
	_ converter.DataConverterWithSerializationContext = guard{}
	_ workflow.ContextAware                           = guard{}
)

func (g guard) check(err error) error {
	var unreadable *UnreadableError
	if g.inWorkflow && errors.As(err, &unreadable) {
		panic(unreadable)
	}
	return err
}

// ToPayload implements converter.DataConverter.
func (g guard) ToPayload(value any) (*commonpb.Payload, error) { return g.inner.ToPayload(value) }

// ToPayloads implements converter.DataConverter.
func (g guard) ToPayloads(value ...any) (*commonpb.Payloads, error) {
	return g.inner.ToPayloads(value...)
}

// FromPayload implements converter.DataConverter.
func (g guard) FromPayload(p *commonpb.Payload, to any) error {
	return g.check(g.inner.FromPayload(p, to))
}

// FromPayloads implements converter.DataConverter.
func (g guard) FromPayloads(p *commonpb.Payloads, to ...any) error {
	return g.check(g.inner.FromPayloads(p, to...))
}

// ToString implements converter.DataConverter.
func (g guard) ToString(p *commonpb.Payload) string { return g.inner.ToString(p) }

// ToStrings implements converter.DataConverter.
func (g guard) ToStrings(p *commonpb.Payloads) []string { return g.inner.ToStrings(p) }

// WithSerializationContext implements converter.DataConverterWithSerializationContext.
func (g guard) WithSerializationContext(sc converter.SerializationContext) converter.DataConverter {
	return guard{inner: converter.WithDataConverterSerializationContext(g.inner, sc), inWorkflow: g.inWorkflow}
}

// WithWorkflowContext implements workflow.ContextAware.
func (g guard) WithWorkflowContext(workflow.Context) converter.DataConverter {
	return guard{inner: g.inner, inWorkflow: true}
}

// WithContext implements workflow.ContextAware.
func (g guard) WithContext(context.Context) converter.DataConverter {
	return guard{inner: g.inner}
}
