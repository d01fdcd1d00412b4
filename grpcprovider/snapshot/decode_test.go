package snapshot

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/ichor-project/ichor/workflows"
)

// However a group changes from answer to answer, its members are what a plain
// decoder says.
func TestMembersAreDecodedAsByAPlainDecoder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var d members
		var now []workflows.GroupMember
		at := time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC)
		for range rapid.IntRange(1, 6).Draw(t, "answers") {
			for n := range rapid.IntRange(0, 3).Draw(t, "new") {
				m := workflows.GroupMember{Instance: fmt.Sprintf("ichor://demo/worker/r%d-%d", len(now), n), Accepted: at}
				m.ID, m.Phase = fmt.Sprintf("m%d", len(now)), workflows.MemberWanted
				now = append(now, m)
			}
			if len(now) > 0 {
				i := rapid.IntRange(0, len(now)-1).Draw(t, "which")
				switch rapid.IntRange(0, 3).Draw(t, "change") {
				case 0:
					now[i].Phase, now[i].ProviderID = workflows.MemberReady, "cloudscale://"+now[i].ID
				case 1:
					now[i].Failure = &workflows.Failure{Kind: "Quota", Message: "full"}
				case 2:
					now = slices.Delete(slices.Clone(now), i, i+1)
				}
			}
			data, err := json.Marshal(workflows.GroupStatus{Members: now, Generation: 7})
			if err != nil {
				t.Fatal(err)
			}
			var want workflows.GroupStatus
			var got answer
			if err := json.Unmarshal(data, &want); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(data, &got); err != nil {
				t.Fatal(err)
			}
			out, err := d.decode("g", got.Members)
			if err != nil {
				t.Fatal(err)
			}
			if len(out) == 0 {
				out = want.Members // nothing and none are the same
			}
			got.GroupStatus.Members = out
			if diff := cmp.Diff(want, got.GroupStatus); diff != "" {
				t.Fatalf("(-plain +got):\n%s", diff)
			}
		}
		d.forget("g")
		if len(d.last) > 0 {
			t.Fatalf("%d groups are remembered after the only one was forgotten", len(d.last))
		}
	})
}

func TestMembersThatCannotBeDecoded(t *testing.T) {
	var d members
	if _, err := d.decode("g", []json.RawMessage{[]byte(`{"id": 1}`)}); err == nil {
		t.Error("a machine id that is a number was taken")
	}
}

func TestPageOf(t *testing.T) {
	for _, c := range []struct {
		name          string
		after, length int64
		want          int32
	}{
		{"all of a short run", 0, 40, 50},
		{"all of a long run", 0, 4000, historyPage},
		{"what is new", 4000, 4003, 13},
		{"nothing is new", 4003, 4003, historyPage},
		{"not known", 0, 0, historyPage},
		{"not known, after some", 900, 0, historyPage},
	} {
		if got := pageOf(c.after, c.length); got != c.want {
			t.Errorf("%s: pages of %d events, want %d", c.name, got, c.want)
		}
	}
}
