package nimbus

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cloud/exchange"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
)

// object is what the API takes and gives for anything: machines, networks, load
// balancers, images. What a thing does not have is missing.
type object struct {
	ID        string            `json:"id,omitempty"`
	Name      string            `json:"name"`
	Zone      string            `json:"zone"`
	State     string            `json:"state,omitempty"`
	Labels    map[string]string `json:"labels"`
	CreatedAt time.Time         `json:"createdAt,omitzero"`
	Network   string            `json:"network,omitempty"`

	Size     string `json:"size,omitempty"` // of machines
	Image    string `json:"image,omitempty"`
	DiskGiB  int    `json:"diskGiB,omitempty"`
	UserData string `json:"userData,omitempty"` // in requests only
	Public   string `json:"publicAddress,omitempty"`
	Private  string `json:"privateAddress,omitempty"`

	CIDR   string `json:"cidr,omitempty"` // of networks
	URL    string `json:"url,omitempty"`  // of images, in requests only
	Reason string `json:"reason,omitempty"`

	Address string   `json:"address,omitempty"` // of load balancers
	Targets []target `json:"targets,omitempty"`
}

type target struct {
	Address string `json:"address"`
	Healthy bool   `json:"healthy"`
}

func machineOf(o object) cloud.Machine {
	return cloud.Machine{
		Ref: cloud.RefOf(o.Labels, o.ID), Name: o.Name, ProviderID: providerIDPrefix + o.ID, Role: cluster.Role(o.Labels[cluster.TagRole]),
		Zone: o.Zone, Flavor: o.Size, ImageID: o.Image, State: stateOf(o), Public: o.Public, Private: o.Private, CreatedAt: o.CreatedAt,
	}
}

// stateOf never guesses: a word that is not known is MachineUnknown.
func stateOf(o object) cloud.MachineState {
	switch o.State {
	case "starting":
		return cloud.MachineCreating
	case "running":
		return cloud.MachineRunning
	case "stopped":
		return cloud.MachineStopped
	case "deleting":
		return cloud.MachineDeleting
	case "failed":
		return cloud.MachineFailed
	}
	return cloud.MachineUnknown
}

// do makes one HTTP exchange. The Caller sends it within its time and rate or not at
// all, and gives its error a kind.
func (p *Provider) do(ctx context.Context, r exchange.Request, method, path string, in, out any) error {
	return p.calls.Call(ctx, r, func(ctx context.Context) error {
		var body []byte
		if in != nil {
			var err error
			if body, err = json.Marshal(in); err != nil {
				return err
			}
		}
		req, err := http.NewRequestWithContext(ctx, method, p.base+path, bytes.NewReader(body))
		if err != nil {
			return err
		}
		req.Header.Set("Authorization", "Bearer "+p.token.RevealString())
		resp, err := p.http.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode >= http.StatusMultipleChoices {
			return errors.New("refused") // classify knows the rest
		}
		if out == nil {
			return nil
		}
		return json.NewDecoder(resp.Body).Decode(out)
	})
}

// list reads all pages, or fails: half a list looks like absence. So does a list of
// what belongs to nobody.
func (p *Provider) list(ctx context.Context, path, filter, value string) ([]object, error) {
	if value == "" || strings.HasSuffix(value, "=") {
		return nil, fault.New(fault.Internal, "list "+path, "the %s to look for is empty", filter)
	}
	var all []object
	for cursor := ""; ; {
		var page struct {
			Items []object `json:"items"`
			Next  string   `json:"next"`
		}
		query := url.Values{filter: {value}, "cursor": {cursor}}
		if err := p.do(ctx, exchange.Request{Op: "list " + path}, http.MethodGet, path+"?"+query.Encode(), nil, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Items...)
		if cursor = page.Next; cursor == "" {
			return all, nil
		}
	}
}

func (p *Provider) get(ctx context.Context, path, id string) (object, error) {
	var o object
	where, err := at(path, id)
	if err != nil {
		return o, err
	}
	err = p.do(ctx, exchange.Request{Op: "read " + where}, http.MethodGet, where, nil, &o)
	return o, err
}

// remove asks for deletion. Absent is success.
func (p *Provider) remove(ctx context.Context, path, id string) error {
	where, err := at(path, id)
	if err != nil {
		return err
	}
	err = p.do(ctx, exchange.Request{Op: "delete " + where, Verb: exchange.Remove}, http.MethodDelete, where, nil, nil)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	return err
}

var idForm = regexp.MustCompile(`^[a-z]+-[0-9]+$`)

// at is the path of one thing. An empty id would turn "read this" into "list all".
func at(path, id string) (string, error) {
	if !idForm.MatchString(id) {
		return "", fault.New(fault.Invalid, "find "+path, "%q is not an id of this cloud", id)
	}
	return path + "/" + id, nil
}

var idInPath = regexp.MustCompile(`/[a-z]+-[0-9]+`)

// route names a request for metrics: there are few of them.
func route(r *http.Request) string { return idInPath.ReplaceAllString(r.URL.Path, "/:id") }
