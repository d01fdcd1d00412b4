package server

import (
	"errors"
	"math"

	"google.golang.org/protobuf/encoding/protowire"
	"k8s.io/apimachinery/pkg/api/resource"
)

// requests are what a pod asks of a node.
type requests struct {
	milliCPU, memory, storage int64
	gpus                      map[string]int64
}

// Fields of Kubernetes' messages (k8s.io/api/core/v1/generated.proto) on the way
// from a Pod to the quantities it requests.
const (
	podSpec                 protowire.Number = 2
	specContainers          protowire.Number = 2
	specInitContainers      protowire.Number = 20
	specOverhead            protowire.Number = 32
	specResources           protowire.Number = 40
	containerResources      protowire.Number = 8
	containerRestartPolicy  protowire.Number = 24
	resourcesRequests       protowire.Number = 2
	entryKey                protowire.Number = 1
	entryValue              protowire.Number = 2
	quantityText            protowire.Number = 1
	longestQuantity                          = 64
	sidecar                                  = "Always"
	cpu, memory, storageKey                  = "cpu", "memory", "ephemeral-storage"
)

var errPod = errors.New("it is not a Pod in protobuf")

// podRequests reads the few bytes that matter out of a Pod, without decoding the
// rest: a hostile message of many empty parts would be blown up a hundredfold.
func podRequests(pod []byte) (requests, error) {
	var sum, sidecars, peak, overhead, whole requests
	err := each(pod, podSpec, func(spec []byte) error {
		return fields(spec, func(num protowire.Number, body []byte) error {
			switch num {
			case specContainers:
				r, _, err := container(body)
				sum.add(r)
				return err
			case specInitContainers:
				r, stays, err := container(body)
				if stays {
					sidecars.add(r)
					r = requests{}
				}
				// It runs alone but for the sidecars that were started before it.
				r.add(sidecars)
				peak.raise(r)
				return err
			case specOverhead:
				return quantity(body, &overhead)
			case specResources:
				return each(body, resourcesRequests, func(entry []byte) error { return quantity(entry, &whole) })
			}
			return nil
		})
	})
	sum.add(sidecars)
	sum.raise(peak)
	sum.override(whole)
	sum.add(overhead)
	return sum, err
}

func container(b []byte) (r requests, stays bool, err error) {
	err = fields(b, func(num protowire.Number, body []byte) error {
		switch num {
		case containerResources:
			return each(body, resourcesRequests, func(entry []byte) error { return quantity(entry, &r) })
		case containerRestartPolicy:
			stays = string(body) == sidecar
		}
		return nil
	})
	return r, stays, err
}

// quantity adds one entry of a resource list.
func quantity(entry []byte, to *requests) error {
	var key, text string
	err := fields(entry, func(num protowire.Number, body []byte) error {
		switch num {
		case entryKey:
			key = string(body)
		case entryValue:
			return each(body, quantityText, func(b []byte) error {
				if len(b) > longestQuantity {
					return errPod
				}
				text = string(b)
				return nil
			})
		}
		return nil
	})
	if err != nil || key != cpu && key != memory && key != storageKey && !isGPU(key) {
		return err
	}
	q, err := resource.ParseQuantity(text)
	if err != nil || q.Sign() < 0 {
		return errPod
	}
	if q.CmpInt64(math.MaxInt64/1000) > 0 { // also in thousandths it has to fit
		return errPod
	}
	var one requests
	switch key {
	case cpu:
		one.milliCPU = q.MilliValue()
	case memory:
		one.memory = q.Value()
	case storageKey:
		one.storage = q.Value()
	default:
		one.gpus = map[string]int64{key: q.Value()}
	}
	to.add(one)
	return nil
}

// fields calls f for each length-delimited field of a message.
func fields(b []byte, f func(protowire.Number, []byte) error) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return errPod
		}
		b = b[n:]
		if typ != protowire.BytesType {
			if n = protowire.ConsumeFieldValue(num, typ, b); n < 0 {
				return errPod
			}
			b = b[n:]
			continue
		}
		body, n := protowire.ConsumeBytes(b)
		if n < 0 {
			return errPod
		}
		if err := f(num, body); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// each calls f for each occurrence of one field.
func each(b []byte, want protowire.Number, f func([]byte) error) error {
	return fields(b, func(num protowire.Number, body []byte) error {
		if num != want {
			return nil
		}
		return f(body)
	})
}

func (r *requests) merge(o requests, how func(a, b int64) int64) {
	r.milliCPU, r.memory, r.storage = how(r.milliCPU, o.milliCPU), how(r.memory, o.memory), how(r.storage, o.storage)
	for name, n := range o.gpus {
		if r.gpus == nil {
			r.gpus = map[string]int64{}
		}
		r.gpus[name] = how(r.gpus[name], n)
	}
}

func (r *requests) add(o requests) {
	r.merge(o, func(a, b int64) int64 {
		if a > math.MaxInt64-b { // both are at least 0
			return math.MaxInt64
		}
		return a + b
	})
}

func (r *requests) raise(o requests) { r.merge(o, func(a, b int64) int64 { return max(a, b) }) }

// override takes what a pod says as a whole for what its containers say.
func (r *requests) override(o requests) {
	r.merge(o, func(a, b int64) int64 {
		if b > 0 {
			return b
		}
		return a
	})
}
