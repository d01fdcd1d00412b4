package devcloud

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"github.com/ichor-project/ichor/testsuite/devcloud/aws"
	"github.com/ichor-project/ichor/testsuite/devcloud/aws/account"
	"github.com/ichor-project/ichor/testsuite/devcloud/world"
)

// AWSInfo is what GET /_devcloud/info says about AWS.
type AWSInfo struct {
	Region    string            `json:"region"`
	Account   string            `json:"account"`
	Latencies account.Latencies `json:"latencies"`
	// Environment is what makes an SDK talk to this cloud.
	Environment map[string]string `json:"environment"`
}

// State is what GET /_devcloud/state answers. Its count is that of all clouds.
type State struct {
	world.State
	AWS aws.State `json:"aws"`
}

// State returns a dump of everything that is rented.
func (d *Devcloud) State() State {
	s := State{d.world.State(), d.aws.State()}
	s.Count += s.AWS.Count
	return s
}

// timeline merges what happened in both clouds.
func (d *Devcloud) timeline() []world.Action {
	all := d.world.Timeline()
	for _, e := range d.AWS().Timeline() {
		all = append(all, world.Action{Time: e.Time, Name: e.Name, Subject: e.Subject, Message: strings.TrimSpace(e.Name + " " + e.Subject + " " + e.Label)})
	}
	slices.SortStableFunc(all, func(a, b world.Action) int { return a.Time.Compare(b.Time) })
	return all
}

func (d *Devcloud) awsInfo() AWSInfo {
	return AWSInfo{account.Region, account.AccountID, d.AWS().Latencies(), d.AWSEnvironment()}
}

// controlAWS adds what only the owner of the building can do to AWS.
func (d *Devcloud) controlAWS(mux *http.ServeMux) {
	a := d.AWS()
	mux.HandleFunc("GET /_devcloud/aws/settings", func(rw http.ResponseWriter, _ *http.Request) {
		d.reply(rw, http.StatusOK, a.Settings())
	})
	mux.HandleFunc("PUT /_devcloud/aws/settings", func(rw http.ResponseWriter, r *http.Request) {
		var s account.Settings
		dec := json.NewDecoder(r.Body)
		dec.DisallowUnknownFields()
		if err := dec.Decode(&s); err != nil {
			d.reply(rw, http.StatusBadRequest, map[string]string{"detail": err.Error()})
			return
		}
		a.SetSettings(s)
		d.reply(rw, http.StatusOK, s)
	})
	mux.HandleFunc("GET /_devcloud/aws/usage", func(rw http.ResponseWriter, _ *http.Request) {
		d.reply(rw, http.StatusOK, d.aws.Usage())
	})
	for verb, do := range map[string]func(string) error{
		"vanish": a.Vanish, "stop": a.StopByHand, "start": a.StartByHand, "terminate": a.TerminateByHand, "interrupt": a.Interrupt,
	} {
		mux.HandleFunc("POST /_devcloud/aws/instances/{id}/"+verb, func(rw http.ResponseWriter, r *http.Request) {
			if err := do(r.PathValue("id")); err != nil {
				d.reply(rw, http.StatusNotFound, map[string]string{"detail": err.Error()})
				return
			}
			rw.WriteHeader(http.StatusNoContent)
		})
	}
	mux.HandleFunc("GET /_devcloud/aws/instances/{id}/console", func(rw http.ResponseWriter, r *http.Request) {
		lines, err := a.Console(r.PathValue("id"))
		if err != nil {
			d.reply(rw, http.StatusNotFound, map[string]string{"detail": err.Error()})
			return
		}
		d.reply(rw, http.StatusOK, lines)
	})
}
