package talos

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ichor-project/ichor/internal/fault"
)

// Messages are those that Talos 1.13 and gRPC write.
func TestCallError(t *testing.T) {
	for name, tc := range map[string]struct {
		err              error
		repeatable, once fault.Kind
	}{
		"not ready for bootstrap": {status.Error(codes.FailedPrecondition, "bootstrap is not available yet"), fault.NotYet, fault.NotYet},
		"time not in sync":        {status.Error(codes.FailedPrecondition, "time is not in sync yet"), fault.NotYet, fault.NotYet},
		"concurrent apply":        {status.Error(codes.FailedPrecondition, "another apply configuration is already in progress"), fault.Conflict, fault.Conflict},
		"apply before reboot":     {status.Error(codes.FailedPrecondition, "configuration was already applied and node is rebooting"), fault.Conflict, fault.Conflict},
		"bootstrapped":            {status.Error(codes.AlreadyExists, "etcd data directory is not empty"), fault.Conflict, fault.Conflict},
		"bad config":              {status.Error(codes.InvalidArgument, "bad"), fault.Invalid, fault.Invalid},
		"not a control plane":     {status.Error(codes.Unimplemented, "not a control plane"), fault.Invalid, fault.Invalid},
		"role too weak":           {status.Error(codes.PermissionDenied, "not authorized"), fault.Unauthorized, fault.Unauthorized},
		"no such member":          {status.Error(codes.NotFound, "member not found"), fault.NotFound, fault.NotFound},
		"never sent":              {status.Error(codes.Unavailable, `connection error: desc = "transport: Error while dialing: dial tcp: refused"`), fault.Unavailable, fault.Unavailable},
		"connection lost":         {status.Error(codes.Unavailable, "error reading from server: EOF"), fault.Unavailable, fault.Ambiguous},
		"certificate refused":     {status.Error(codes.Unavailable, "remote error: tls: unknown certificate authority"), fault.Unauthorized, fault.Unauthorized},
		"certificate not trusted": {status.Error(codes.Unavailable, `connection error: desc = "transport: authentication handshake failed: tls: failed to verify certificate: x509: certificate signed by unknown authority"`), fault.Unauthorized, fault.Unauthorized},
		"down in the handshake":   {status.Error(codes.Unavailable, `connection error: desc = "transport: authentication handshake failed: read tcp: connection reset by peer"`), fault.Unavailable, fault.Unavailable},
		"silence":                 {status.Error(codes.DeadlineExceeded, "context deadline exceeded"), fault.Unavailable, fault.Ambiguous},
		"cancelled":               {status.Error(codes.Canceled, "context canceled"), fault.Unavailable, fault.Ambiguous},
		"busy":                    {status.Error(codes.ResourceExhausted, "slow down"), fault.RateLimited, fault.RateLimited},
		"too large":               {status.Error(codes.ResourceExhausted, "grpc: received message larger than max"), fault.Internal, fault.Internal},
		"unknown":                 {status.Error(codes.Unknown, "something"), fault.Internal, fault.Ambiguous},
		"no status":               {errors.New("something"), fault.Internal, fault.Ambiguous},
		"context":                 {fmt.Errorf("x: %w", context.DeadlineExceeded), fault.Unavailable, fault.Ambiguous},
	} {
		t.Run(name, func(t *testing.T) {
			for e, want := range map[effect]fault.Kind{repeatable: tc.repeatable, once: tc.once} {
				err := callError("do it", e, tc.err)
				if got := fault.KindOf(err); got != want {
					t.Errorf("effect %d: got %s, want %s: %v", e, got, want, err)
				}
			}
		})
	}
	if callError("do it", once, nil) != nil {
		t.Error("no error became one")
	}
	err := callError("apply", repeatable, status.Errorf(codes.InvalidArgument, "cannot parse %q and `%s`", canary, canary))
	if strings.Contains(err.Error(), canary) {
		t.Errorf("the error repeats the config: %v", err)
	}
}

func TestConditions(t *testing.T) {
	state := EtcdState{
		Running: true, Members: []EtcdMember{{ID: 1, Hostname: "a"}, {ID: 2, Hostname: "b", Learner: true}},
		Local: EtcdStatus{MemberID: 1, Leader: 1}, Alarms: []string{"NOSPACE on member 1"},
	}
	var failing []string
	for _, c := range state.Conditions(2) {
		if !c.OK {
			failing = append(failing, c.Name+": "+c.Detail)
		}
	}
	want := "etcd members: 1 of 2 vote: a; still learning: b|etcd without alarms: NOSPACE on member 1"
	if got := strings.Join(failing, "|"); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	if c := (NodeState{Maintenance: true}).Conditions(); len(c) != 1 || c[0].OK {
		t.Errorf("maintenance mode: %+v", c)
	}
	s := NodeState{Version: "v1.13.5", MachineStatus: MachineStatus{Stage: "booting", Unmet: []Unmet{{"time", "not in sync"}, {"nodeReady", "no CNI"}}}}
	c := s.Conditions()
	if last := c[len(c)-1]; last.OK || last.Detail != "time: not in sync; nodeReady: no CNI" {
		t.Errorf("unmet: %+v", last)
	}
}
