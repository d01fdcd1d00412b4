package main

import (
	"strings"
	"testing"
	"time"

	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/workflows"
)

func TestWhenAGroupHasSettled(t *testing.T) {
	now := time.Now()
	ready, booting := member("a-b-aaaaa", workflows.MemberReady, nil), member("a-b-bbbbb", workflows.MemberBooting, nil)
	wanted, leaving := member("a-b-ccccc", workflows.MemberWanted, nil), member("a-b-ddddd", workflows.MemberDeleting, nil)
	broken := member("a-b-eeeee", workflows.MemberFailed, &workflows.Failure{Kind: fault.Capacity, Message: "sold out"})
	gone := member("a-b-fffff", workflows.MemberGone, nil)
	backoff := &workflows.BackoffStatus{Until: now.Add(time.Minute), Failures: 1}
	paused := &workflows.PauseStatus{Reason: "mine"}
	group := func(target int, ms ...workflows.GroupMember) workflows.GroupStatus {
		return workflows.GroupStatus{Target: target, Members: ms}
	}
	with := func(s workflows.GroupStatus, change func(*workflows.GroupStatus)) workflows.GroupStatus {
		change(&s)
		return s
	}
	for _, tc := range []struct {
		name string
		s    workflows.GroupStatus
		done bool
		code int
		says string
	}{
		{"all ready", group(1, ready, gone), true, exitOK, ""},
		{"none wanted", group(0), true, exitOK, ""},
		{"one boots", group(2, ready, booting), false, 0, ""},
		{"not listed yet", group(2, ready), false, 0, ""},
		{"one leaves", group(1, ready, leaving), false, 0, ""},
		{"one failed, one still boots", group(3, ready, booting, broken), false, 0, ""},
		{"one failed", group(2, ready, broken), true, exitFailed, "1 of 2 ready, 1 failed: a-b-eeeee: sold out (Capacity)"},
		{"waits for the end of a backoff", with(group(2, ready, wanted), func(s *workflows.GroupStatus) { s.Backoff = backoff }), true, exitFailed, "backs off until"},
		{"backoff is over", with(group(2, ready, wanted), func(s *workflows.GroupStatus) {
			s.Backoff = &workflows.BackoffStatus{Until: now.Add(-time.Second)}
		}), false, 0, ""},
		{"paused with all ready", with(group(1, ready), func(s *workflows.GroupStatus) { s.Paused = paused }), true, exitOK, ""},
		{"paused with one wanted", with(group(2, ready, wanted), func(s *workflows.GroupStatus) { s.Paused = paused }), true, exitConflict, "paused (mine); go on with: ichor resume demo/worker"},
		{"paused while one boots", with(group(2, ready, booting), func(s *workflows.GroupStatus) { s.Paused = paused }), false, 0, ""},
		{"parked", with(group(2, ready, wanted), func(s *workflows.GroupStatus) { s.Parked = "no token" }), false, 0, ""},
		{"ending", with(group(1, leaving), func(s *workflows.GroupStatus) { s.Ending = true }), true, exitFailed, "the group is ending"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			done, err := settled(groupName{"demo", "worker"}, tc.s, now)
			if done != tc.done {
				t.Fatalf("settled: %v, want %v (%v)", done, tc.done, err)
			}
			if done && exitCode(err) != tc.code {
				t.Errorf("exit code %d, want %d (%v)", exitCode(err), tc.code, err)
			}
			if tc.says != "" && (err == nil || !strings.Contains(err.Error(), tc.says)) {
				t.Errorf("error %v, want %q", err, tc.says)
			}
		})
	}
}
