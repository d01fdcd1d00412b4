package server_test

import (
	"math"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

// msg builds a message by hand.
type msg []byte

func (m msg) text(num protowire.Number, s string) msg { return m.sub(num, msg(s)) }

func (m msg) sub(num protowire.Number, b msg) msg {
	return protowire.AppendBytes(protowire.AppendTag(m, num, protowire.BytesType), b)
}

func (m msg) num(num protowire.Number, v int64) msg {
	return protowire.AppendVarint(protowire.AppendTag(m, num, protowire.VarintType), uint64(v))
}

func (m msg) double(num protowire.Number, v float64) msg {
	return protowire.AppendFixed64(protowire.AppendTag(m, num, protowire.Fixed64Type), math.Float64bits(v))
}

// decoded is a message by field number: uint64 for numbers, []byte for the rest.
type decoded map[protowire.Number][]any

func decode(t testing.TB, b []byte) decoded {
	t.Helper()
	out := decoded{}
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			t.Fatalf("not a message: %x", b)
		}
		b = b[n:]
		switch typ {
		case protowire.VarintType:
			v, n := protowire.ConsumeVarint(b)
			out[num], b = append(out[num], v), b[n:]
		case protowire.Fixed64Type:
			v, n := protowire.ConsumeFixed64(b)
			out[num], b = append(out[num], v), b[n:]
		case protowire.BytesType:
			v, n := protowire.ConsumeBytes(b)
			out[num], b = append(out[num], append([]byte{}, v...)), b[n:]
		default:
			t.Fatalf("field %d has the wire type %d", num, typ)
		}
	}
	return out
}

func (d decoded) bytes(t testing.TB, num protowire.Number) []byte {
	t.Helper()
	if len(d[num]) != 1 {
		t.Fatalf("field %d is there %d times, not once", num, len(d[num]))
	}
	b, ok := d[num][0].([]byte)
	if !ok {
		t.Fatalf("field %d is a number", num)
	}
	return b
}

func (d decoded) text(num protowire.Number) string {
	if len(d[num]) == 0 {
		return ""
	}
	b, _ := d[num][0].([]byte)
	return string(b)
}

func (d decoded) num(num protowire.Number) int64 {
	if len(d[num]) == 0 {
		return 0
	}
	v, _ := d[num][0].(uint64)
	return int64(v)
}

func (d decoded) double(num protowire.Number) float64 {
	return math.Float64frombits(uint64(d.num(num)))
}

func (d decoded) numbers() []protowire.Number {
	var out []protowire.Number
	for n := protowire.Number(1); n < 100; n++ {
		if len(d[n]) > 0 {
			out = append(out, n)
		}
	}
	return out
}
