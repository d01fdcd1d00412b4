package apid

import (
	"fmt"

	"google.golang.org/grpc/mem"
)

// frame is a message that apid passes on without looking inside.
type frame struct{ data []byte }

// rawCodec moves frames. It calls itself "proto" because that is what travels.
type rawCodec struct{}

func (rawCodec) Name() string { return "proto" }

func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	f, ok := v.(*frame)
	if !ok {
		return nil, fmt.Errorf("apid: cannot send %T", v)
	}

	return mem.BufferSlice{mem.SliceBuffer(f.data)}, nil
}

func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	f, ok := v.(*frame)
	if !ok {
		return fmt.Errorf("apid: cannot receive %T", v)
	}

	f.data = data.Materialize()

	return nil
}
