package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
)

// scarce are the machines that one zone of AWS has none of when a demonstration
// begins: those of a group whose first one would be made there.
var scarce = map[string]string{"up": "m7g.large", "autoscale": "m7g.xlarge", "upgrade": "m6i.xlarge"}

const scarceZone = "eu-central-1a"

// exhaust takes the capacity of one zone away, so that its machines have to be made
// in the next one. It does nothing on other clouds.
func (d demo) exhaust(ctx context.Context, sys *system) error {
	if d.scarce == "" {
		return nil
	}
	settings := map[string]any{}
	url := sys.Cloud + "_devcloud/aws/settings"
	if err := exchange(ctx, http.MethodGet, url, nil, &settings); err != nil {
		return err
	}
	settings["capacity"] = map[string]int{d.scarce + "@" + scarceZone: 0}
	if err := exchange(ctx, http.MethodPut, url, settings, nil); err != nil {
		return err
	}
	fmt.Printf("The cloud has no %s left in %s; the group of such machines has other zones, too.\n\n", d.scarce, scarceZone)
	return nil
}

// refused tells what became of launches in the place that has nothing left: at
// least one was refused, and every such machine runs elsewhere.
func (d demo) refused(ctx context.Context, sys *system) error {
	if d.scarce == "" {
		return nil
	}
	var requests []struct {
		Path   string
		Status int
	}
	if err := exchange(ctx, http.MethodGet, sys.Cloud+"_devcloud/requests", nil, &requests); err != nil {
		return err
	}
	n := 0
	for _, r := range requests {
		if r.Path == "/aws/ec2/RunInstances" && r.Status == http.StatusBadRequest {
			n++
		}
	}
	var state struct {
		AWS struct {
			Instances []struct{ State, Zone, Detail string }
		}
	}
	if err := exchange(ctx, http.MethodGet, sys.Cloud+"_devcloud/state", nil, &state); err != nil {
		return err
	}
	running := map[string]int{}
	for _, i := range state.AWS.Instances {
		if i.Detail == d.scarce && i.State == "running" {
			running[i.Zone]++
		}
	}
	if n == 0 || len(running) == 0 || running[scarceZone] > 0 {
		return fmt.Errorf("%d launches were refused for lack of %s in %s; running by zone: %v", n, d.scarce, scarceZone, running)
	}
	fmt.Printf("\nLaunches that %s refused for lack of capacity: %d. Their machines run in other zones:", scarceZone, n)
	for _, zone := range slices.Sorted(maps.Keys(running)) {
		fmt.Printf(" %d in %s", running[zone], zone)
	}
	fmt.Println()
	return nil
}

// exchange sends and receives JSON.
func exchange(ctx context.Context, method, url string, in, out any) error {
	var body bytes.Buffer
	if in != nil {
		if err := json.NewEncoder(&body).Encode(in); err != nil {
			return err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, url, &body)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return errors.Join(fmt.Errorf("%s %s: %s", method, url, res.Status), res.Body.Close())
	}
	if out != nil {
		err = json.NewDecoder(res.Body).Decode(out)
	}
	return errors.Join(err, res.Body.Close())
}
