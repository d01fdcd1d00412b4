package talosnode

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/siderolabs/talos/pkg/machinery/api/common"
	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"github.com/siderolabs/talos/pkg/machinery/resources/runtime"
)

// eventLog keeps the latest events of a machine. The ids grow across reboots;
// the events themselves are lost with each, as in a real one's memory.
type eventLog struct {
	mu      sync.Mutex
	next    uint64
	events  []event
	changed chan struct{}
}

type event struct {
	id, actor string
	at        time.Time
	data      *anypb.Any
}

const maxEvents = 1000

// typePrefix is what Talos writes in place of type.googleapis.com.
const typePrefix = "talos/runtime/"

func (l *eventLog) add(actor string, m proto.Message) {
	value, err := proto.Marshal(m)
	if err != nil {
		return // only a message with invalid UTF-8 does this
	}

	data := &anypb.Any{TypeUrl: typePrefix + string(m.ProtoReflect().Descriptor().FullName()), Value: value}

	l.mu.Lock()
	defer l.mu.Unlock()

	l.next++
	l.events = append(l.events, event{id: fmt.Sprintf("%020d", l.next), actor: actor, at: time.Now(), data: data})

	if len(l.events) > maxEvents {
		l.events = slices.Delete(l.events, 0, len(l.events)-maxEvents)
	}

	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}

func (l *eventLog) clear() {
	l.mu.Lock()
	defer l.mu.Unlock()

	l.events = nil
}

// after returns the events with greater ids and a channel that closes with the
// next one.
func (l *eventLog) after(id string) ([]event, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()

	if l.changed == nil {
		l.changed = make(chan struct{})
	}

	i, _ := slices.BinarySearchFunc(l.events, id, func(e event, id string) int {
		if e.id <= id {
			return -1
		}

		return 1
	})

	return slices.Clone(l.events[i:]), l.changed
}

// start finds the id after which a request wants to hear.
func (l *eventLog) start(in *machine.EventsRequest) string {
	l.mu.Lock()
	defer l.mu.Unlock()

	last := fmt.Sprintf("%020d", l.next)

	switch {
	case in.GetTailId() != "":
		return in.GetTailId()
	case in.GetTailSeconds() > 0:
		since := time.Now().Add(-time.Duration(in.GetTailSeconds()) * time.Second)
		for _, e := range l.events {
			if e.at.After(since) {
				return before(e.id)
			}
		}
	case in.GetTailEvents() != 0:
		n := len(l.events)
		if t := int(in.GetTailEvents()); t > 0 && t < n {
			n = t
		}

		if n > 0 {
			return before(l.events[len(l.events)-n].id)
		}
	}

	return last
}

func before(id string) string {
	var n uint64
	if _, err := fmt.Sscanf(id, "%d", &n); err != nil || n == 0 {
		return ""
	}

	return fmt.Sprintf("%020d", n-1)
}

// Events streams what happens on the machine.
func (a *machineAPI) Events(in *machine.EventsRequest, out grpc.ServerStreamingServer[machine.Event]) error {
	log := &a.s.node.events

	// An empty event says that the stream has begun.
	if err := out.Send(&machine.Event{}); err != nil {
		return err
	}

	for from := log.start(in); ; {
		events, changed := log.after(from)

		for _, e := range events {
			from = e.id

			if want := in.GetWithActorId(); want != "" && want != e.actor {
				continue
			}

			if err := out.Send(&machine.Event{Data: e.data, Id: e.id, ActorId: e.actor}); err != nil {
				return err
			}
		}

		select {
		case <-changed:
		case <-out.Context().Done():
			return context.Cause(out.Context())
		case <-a.s.ctx.Done():
			return context.Cause(a.s.ctx)
		}
	}
}

func (s *session) emitMachineStatus(stage machine.MachineStatusEvent_MachineStage, ready bool, unmet []runtime.UnmetCondition) {
	status := &machine.MachineStatusEvent_MachineStatus{Ready: ready}
	for _, u := range unmet {
		status.UnmetConditions = append(status.UnmetConditions,
			&machine.MachineStatusEvent_MachineStatus_UnmetCondition{Name: u.Name, Reason: u.Reason})
	}

	s.node.events.add("", &machine.MachineStatusEvent{Stage: stage, Status: status})
}

func (s *session) emitSequence(name string, action machine.SequenceEvent_Action, actor string, failed error) {
	e := &machine.SequenceEvent{Sequence: name, Action: action}
	if failed != nil {
		e.Error = &common.Error{Code: common.Code_FATAL, Message: failed.Error()}
	}

	s.node.events.add(actor, e)
}

func (s *session) emitConfigError(err error) {
	s.node.events.add("", &machine.ConfigLoadErrorEvent{Error: err.Error()})
}

// actions maps a service's state to the event's.
var actions = map[string]machine.ServiceStateEvent_Action{
	stateWaiting:   machine.ServiceStateEvent_WAITING,
	statePreparing: machine.ServiceStateEvent_PREPARING,
	stateRunning:   machine.ServiceStateEvent_RUNNING,
	stateFinished:  machine.ServiceStateEvent_FINISHED,
	stateFailed:    machine.ServiceStateEvent_FAILED,
}

func (s *session) emitService(st serviceStatus) {
	s.node.events.add("", &machine.ServiceStateEvent{
		Service: st.id,
		Action:  actions[st.state],
		Message: st.message,
		Health:  &machine.ServiceHealth{Unknown: st.unknown, Healthy: st.healthy, LastMessage: st.message},
	})
}
