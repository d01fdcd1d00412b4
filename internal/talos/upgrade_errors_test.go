package talos

import (
	"errors"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ichor-project/ichor/internal/fault"
)

// An installer's exit codes are those of machinery's constants.
func TestExitCodes(t *testing.T) {
	for code, want := range map[int32]fault.Kind{
		0: "", 1: fault.Internal, 2: fault.Invalid, 3: fault.Invalid, 4: fault.Unsafe, 5: fault.Unavailable,
		6: fault.Unavailable, 7: fault.Internal, 137: fault.Internal, -1: fault.Unavailable,
	} {
		err := exitError("install", code, `host version "1.9.0" is too old`)
		if got := fault.KindOf(err); got != want {
			t.Errorf("exit code %d: got %q, want %q", code, got, want)
		}
		if code > 0 && !strings.HasSuffix(strings.SplitN(err.Error(), " (exit", 2)[0], "host version … is too old") {
			t.Errorf("exit code %d: the installer's reason is lost: %v", code, err)
		}
	}
}

// Messages are those that Talos 1.12 to 1.14, etcd and containerd write.
func TestSharpenedErrors(t *testing.T) {
	type sharpener func(error) error
	install := func(err error) error { return installError("img", err) }
	whole := func(err error) error { return wholeError("img", err) }
	pull := func(err error) error { return pullError("img", err) }
	for name, tc := range map[string]struct {
		by   sharpener
		e    effect
		err  error
		want fault.Kind
	}{
		"install: not pulled":      {install, repeatable, status.Error(codes.Internal, `upgrade failed: installer image "x" not found in containerd store: x`), fault.NotFound},
		"install: another runs":    {install, repeatable, status.Error(codes.FailedPrecondition, "another installation/upgrade is already in progress"), fault.Conflict},
		"install: not installed":   {install, repeatable, status.Error(codes.FailedPrecondition, "machine is not installed"), fault.Invalid},
		"install: container":       {install, repeatable, status.Error(codes.FailedPrecondition, "upgrade is not supported in container mode"), fault.Invalid},
		"install: before 1.13":     {install, repeatable, status.Error(codes.Unimplemented, "unknown service machine.LifecycleService"), fault.Invalid},
		"install: stream broken":   {install, repeatable, status.Error(codes.Unavailable, "error reading from server: EOF"), fault.Unavailable},
		"whole: two members":       {whole, once, status.Error(codes.Unknown, `error validating etcd for upgrade: etcd cluster has 2 members`), fault.Unsafe},
		"whole: two, with code":    {whole, once, status.Error(codes.FailedPrecondition, `error validating etcd for upgrade: x`), fault.Unsafe},
		"whole: another upgrades":  {whole, once, status.Error(codes.Unknown, "failed to acquire upgrade mutex: context deadline exceeded"), fault.Conflict},
		"whole: no such image":     {whole, once, status.Error(codes.Unknown, `error validating installer image "x": failed to pull image "x": x: not found`), fault.Invalid},
		"whole: registry is down":  {whole, once, status.Error(codes.Unknown, `error validating installer image "x": dial tcp: i/o timeout`), fault.Unavailable},
		"whole: no etcd":           {whole, once, status.Error(codes.Unknown, "failed to create etcd client: context deadline exceeded"), fault.Unavailable},
		"whole: busy":              {whole, once, status.Error(codes.FailedPrecondition, "another sequence is in progress"), fault.Conflict},
		"whole: answer lost":       {whole, once, status.Error(codes.Unavailable, "error reading from server: EOF"), fault.Ambiguous},
		"pull: no such image":      {pull, repeatable, status.Error(codes.NotFound, "error pulling image: x"), fault.Invalid},
		"pull: no reference":       {pull, repeatable, status.Error(codes.Unknown, "invalid reference format"), fault.Invalid},
		"pull: forbidden":          {pull, repeatable, status.Error(codes.Unknown, "failed to authorize: failed to fetch anonymous token: unexpected status: 403 Forbidden"), fault.Unauthorized},
		"pull: slow down":          {pull, repeatable, status.Error(codes.Unknown, "unexpected status: 429 Too Many Requests"), fault.RateLimited},
		"pull: registry is down":   {pull, repeatable, status.Error(codes.Unknown, "dial tcp: i/o timeout"), fault.Unavailable},
		"pull: disk full":          {pull, repeatable, status.Error(codes.Unknown, "write /var: no space left on device"), fault.Unavailable},
		"pull: role too weak":      {pull, repeatable, status.Error(codes.PermissionDenied, "not authorized"), fault.Unauthorized},
		"rollback: GRUB":           {rollbackError, once, status.Error(codes.Unknown, `cannot rollback to "", label does not exist`), fault.Unsafe},
		"rollback: no GRUB":        {rollbackError, once, status.Error(codes.Unknown, "cannot revert bootloader: bootloader not installed"), fault.Unsafe},
		"rollback: systemd-boot":   {rollbackError, once, status.Error(codes.Unknown, "previous UKI not found"), fault.Unsafe},
		"rollback: answer lost":    {rollbackError, once, status.Error(codes.Unavailable, "error reading from server: EOF"), fault.Ambiguous},
		"etcd: quorum":             {etcdError, repeatable, status.Error(codes.Unknown, "failed to remove member: failed to remove member 1: etcdserver: re-configuration failed due to not enough started members"), fault.Unsafe},
		"etcd: unhealthy":          {etcdError, once, status.Error(codes.Unknown, "failed to leave cluster: etcdserver: unhealthy cluster"), fault.Unsafe},
		"etcd: nobody else":        {etcdError, repeatable, status.Error(codes.Unknown, "failed to forfeit leadership: cannot forfeit leadership, only one member"), fault.Unsafe},
		"etcd: bad successor":      {etcdError, repeatable, status.Error(codes.Unknown, "failed to forfeit leadership: etcdserver: bad leader transferee"), fault.NotYet},
		"etcd: gone":               {etcdError, repeatable, status.Error(codes.NotFound, "etcdserver: member not found"), fault.NotFound},
		"etcd: gone, without code": {etcdError, repeatable, status.Error(codes.Unknown, "etcdserver: member not found"), fault.NotFound},
		"etcd: no leader":          {etcdError, once, status.Error(codes.Unknown, "failed to list members: etcdserver: no leader"), fault.Unavailable},
		"etcd: late":               {etcdError, repeatable, status.Error(codes.Unknown, "etcdserver: request timed out"), fault.Unavailable},
		"etcd: late write":         {etcdError, once, status.Error(codes.Unknown, "etcdserver: request timed out"), fault.Ambiguous},
		"etcd: answer lost":        {etcdError, once, status.Error(codes.Unavailable, "error reading from server: EOF"), fault.Ambiguous},
		"recover: data":            {recoverError, repeatable, status.Error(codes.AlreadyExists, "etcd data directory is not empty"), fault.Unsafe},
		"recover: not ready":       {recoverError, repeatable, status.Error(codes.FailedPrecondition, "etcd service is not ready for recovery yet"), fault.NotYet},
	} {
		t.Run(name, func(t *testing.T) {
			err := tc.by(callError("do it", tc.e, tc.err))
			if got := fault.KindOf(err); got != tc.want {
				t.Errorf("got %s, want %s: %v", got, tc.want, err)
			}
		})
	}
	for _, by := range []sharpener{install, whole, pull, rollbackError, etcdError, recoverError, applyError} {
		if by(nil) != nil {
			t.Error("no error became one")
		}
		other := errors.New("something else")
		if !errors.Is(by(other), other) {
			t.Error("an error that is no fault was changed")
		}
	}
}

// Talos 1.13 shows, with its refusal, how the configs differ, secrets included;
// and every version shows keys that it does not know, with their values.
func TestRefusedConfigIsNotRepeated(t *testing.T) {
	refused := status.Error(codes.InvalidArgument, "this config change can't be applied in immediate mode\ndiff:\n-  token: "+canary+"\n+  token: other")
	err := applyError(callError("apply config", repeatable, refused))
	f, ok := errors.AsType[*fault.Error](err)
	if !ok || f.Kind != fault.Invalid || f.Code != NeedsReboot {
		t.Errorf("refused: %v", err)
	}
	unknown := status.Error(codes.InvalidArgument, "unknown keys found during decoding:\nmachine:\n    tokken: "+canary+"\n")
	other := applyError(callError("apply config", repeatable, unknown))
	if f, ok := errors.AsType[*fault.Error](other); !ok || f.Kind != fault.Invalid || f.Code == NeedsReboot || !strings.Contains(f.Message, "machine.tokken") {
		t.Errorf("unknown key: %v", other)
	}
	for _, e := range []error{err, other, callError("apply config", repeatable, refused)} {
		if strings.Contains(e.Error(), canary) {
			t.Errorf("the error repeats the config: %v", e)
		}
	}
}
