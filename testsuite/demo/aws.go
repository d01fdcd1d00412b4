package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
)

// The place that has nothing left when the demonstration on AWS begins: the first
// machine of the group with Graviton processors would be made there.
const (
	scarceType = "m7g.large"
	scarceZone = "eu-central-1a"
)

// exhaust takes the capacity of one zone away, so that its machines have to be made
// in the next one.
func (d demo) exhaust(ctx context.Context, sys *system) error {
	settings := map[string]any{}
	url := sys.Cloud + "_devcloud/aws/settings"
	if err := exchange(ctx, http.MethodGet, url, nil, &settings); err != nil {
		return err
	}
	settings["capacity"] = map[string]int{scarceType + "@" + scarceZone: 0}
	if err := exchange(ctx, http.MethodPut, url, settings, nil); err != nil {
		return err
	}
	fmt.Printf("The cloud has no %s left in %s; the group of such machines has two more zones.\n\n", scarceType, scarceZone)
	return nil
}

// refused tells what became of launches in the place that has nothing left.
func (d demo) refused(ctx context.Context, sys *system) error {
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
	if n == 0 {
		return fmt.Errorf("no launch was refused for lack of %s in %s", scarceType, scarceZone)
	}
	fmt.Printf("\nLaunches that %s refused for lack of capacity: %d. Their machines run in the next zone.\n", scarceZone, n)
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
