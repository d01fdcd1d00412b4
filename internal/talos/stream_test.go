package talos

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"google.golang.org/grpc/status"

	"github.com/ichor-project/ichor/internal/fault"
)

// script answers with its messages, one every pause, and then with the end; with
// no end it falls silent.
type script struct {
	ctx      context.Context
	messages []string
	pause    time.Duration
	end      error
}

func (s *script) Recv() (*string, error) {
	if len(s.messages) == 0 {
		if s.end != nil {
			return nil, s.end
		}
		<-s.ctx.Done()
		return nil, status.FromContextError(s.ctx.Err()).Err()
	}
	time.Sleep(s.pause)
	m := s.messages[0]
	s.messages = s.messages[1:]
	return &m, nil
}

func TestReceive(t *testing.T) {
	refused := errors.New("disk full")
	for name, tc := range map[string]struct {
		script  script
		each    error
		want    fault.Kind
		text    string
		through int
	}{
		"ends":              {script: script{messages: []string{"a", "b"}, end: io.EOF}, through: 2},
		"slow but talking":  {script: script{messages: []string{"a", "b", "c"}, pause: 50 * time.Second, end: io.EOF}, through: 3},
		"falls silent":      {script: script{messages: []string{"a"}}, want: fault.Unavailable, text: "said nothing for 1m0s", through: 1},
		"breaks":            {script: script{messages: []string{"a"}, end: io.ErrUnexpectedEOF}, want: fault.Internal, through: 1},
		"nobody takes them": {script: script{messages: []string{"a", "b"}, end: io.EOF}, each: refused, want: fault.Internal, text: "disk full", through: 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				got := 0
				s := tc.script
				err := receive(t.Context(), &Node{address: "node"}, "look", repeatable, time.Minute,
					func(ctx context.Context) (*script, error) { s.ctx = ctx; return &s, nil },
					func(*string) error { got++; return tc.each })
				if fault.KindOf(err) != tc.want || got != tc.through {
					t.Errorf("%d messages, %s: %v", got, fault.KindOf(err), err)
				}
				if err != nil && !strings.Contains(err.Error(), tc.text) {
					t.Errorf("error %v does not say %q", err, tc.text)
				}
			})
		})
	}
}

func TestPullProgress(t *testing.T) {
	const mib = 1 << 20
	layer := func(id string, s machine.ImageServicePullLayerProgress_Status, offset, total int64) *machine.ImageServicePullProgress {
		return &machine.ImageServicePullProgress{LayerId: id, Progress: &machine.ImageServicePullLayerProgress{Status: s, Offset: offset, Total: total}}
	}
	p := pullProgress{layers: map[string]*machine.ImageServicePullLayerProgress{}}
	var lines []string
	for _, m := range []*machine.ImageServicePullProgress{
		nil,
		{LayerId: "a"},
		layer("a", machine.ImageServicePullLayerProgress_DOWNLOADING, 0, 40*mib),
		layer("a", machine.ImageServicePullLayerProgress_DOWNLOADING, 100, 40*mib), // less than a MiB more
		layer("b", machine.ImageServicePullLayerProgress_ALREADY_EXISTS, 0, 0),
		layer("a", machine.ImageServicePullLayerProgress_DOWNLOAD_COMPLETE, 40*mib, 40*mib),
		layer("a", machine.ImageServicePullLayerProgress_EXTRACTING, 40*mib, 40*mib),
		layer("a", machine.ImageServicePullLayerProgress_EXTRACT_COMPLETE, 40*mib, 40*mib),
	} {
		if line := p.line(m); line != "" {
			lines = append(lines, line)
		}
	}
	want := "0 of 1 layers ready, 0 of 40 MiB|1 of 2 layers ready, 0 of 40 MiB|1 of 2 layers ready, 40 of 40 MiB|2 of 2 layers ready, 40 of 40 MiB"
	if got := strings.Join(lines, "|"); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}
