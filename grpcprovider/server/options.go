package server

import (
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/ichor-project/ichor/internal/cluster"
	pb "github.com/ichor-project/ichor/internal/externalgrpc"
)

// What the autoscaler assumes by default (its flags --scale-down-*-threshold,
// --scale-down-*-time, --max-node-provision-time), for the case that neither the
// group nor the request says: a zero would mean at once.
const (
	defaultThreshold = 0.5
	defaultUnneeded  = 10 * time.Minute
	defaultUnready   = 20 * time.Minute
	defaultProvision = 15 * time.Minute
)

// lastOption is the highest field of the options that this contract knows.
const lastOption = 10

// options fills every field in both forms. What newer autoscalers have added is
// answered as it was sent, so that it keeps their own default.
func options(a cluster.Autoscaling, defaults *pb.NodeGroupAutoscalingOptions) *pb.NodeGroupAutoscalingOptions {
	unneeded := firstSpan(a.ScaleDownUnneededTime, defaults.GetScaleDownUnneededDuration(), defaults.GetLegacyUnneeded(), defaultUnneeded)
	unready := firstSpan(a.ScaleDownUnreadyTime, defaults.GetScaleDownUnreadyDuration(), defaults.GetLegacyUnready(), defaultUnready)
	provision := firstSpan(a.MaxNodeProvisionTime, defaults.GetMaxNodeProvisionDuration(), defaults.GetLegacyProvision(), defaultProvision)
	out := &pb.NodeGroupAutoscalingOptions{
		ScaleDownUtilizationThreshold:    firstFraction(a.ScaleDownUtilizationThreshold, defaults.GetScaleDownUtilizationThreshold()),
		ScaleDownGpuUtilizationThreshold: firstFraction(a.ScaleDownGPUUtilizationThreshold, defaults.GetScaleDownGpuUtilizationThreshold()),
		IgnoreDaemonSetsUtilization:      a.IgnoreDaemonSetsUtilization,
		LegacyUnneeded:                   &pb.LegacyDuration{Nanoseconds: int64(unneeded)},
		LegacyUnready:                    &pb.LegacyDuration{Nanoseconds: int64(unready)},
		LegacyProvision:                  &pb.LegacyDuration{Nanoseconds: int64(provision)},
		ScaleDownUnneededDuration:        durationpb.New(unneeded),
		ScaleDownUnreadyDuration:         durationpb.New(unready),
		MaxNodeProvisionDuration:         durationpb.New(provision),
		// ZeroOrMaxNodeScaling stays false: it does not work through this
		// contract when groups shrink.
	}
	out.ProtoReflect().SetUnknown(newer(defaults))
	return out
}

func firstSpan(own cluster.Duration, current *durationpb.Duration, legacy *pb.LegacyDuration, fallback time.Duration) time.Duration {
	switch {
	case own > 0:
		return time.Duration(own)
	case current.CheckValid() == nil && current.AsDuration() > 0:
		return current.AsDuration()
	case legacy.GetNanoseconds() > 0:
		return time.Duration(legacy.GetNanoseconds())
	}
	return fallback
}

func firstFraction(own, other float64) float64 {
	switch {
	case own > 0:
		return own
	case other > 0 && other <= 1:
		return other
	}
	return defaultThreshold
}

// newer are the fields of options that this contract does not know, at most as
// many as a later version may plausibly have.
func newer(o *pb.NodeGroupAutoscalingOptions) []byte {
	const most = 256
	var out []byte
	for b := []byte(o.ProtoReflect().GetUnknown()); len(b) > 0; {
		num, _, n := protowire.ConsumeField(b)
		if n < 0 || len(out)+n > most {
			break
		}
		if num > lastOption {
			out = append(out, b[:n]...)
		}
		b = b[n:]
	}
	return out
}

// startupTimeIsLost tells autoscalers that read the time a node may take to get
// ready as zero from every answer, since their contract lacks the field: those
// that speak the current form only and sent nothing newer.
func startupTimeIsLost(defaults *pb.NodeGroupAutoscalingOptions) bool {
	return defaults.GetScaleDownUnneededDuration() != nil && defaults.GetLegacyUnneeded() == nil && len(newer(defaults)) == 0
}
