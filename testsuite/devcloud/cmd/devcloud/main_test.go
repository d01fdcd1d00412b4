package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"testing"
)

func TestRunServesUntilCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	out, in := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := run(ctx, []string{
			"--listen", "127.0.0.1:0", "--factory-listen", "127.0.0.1:0", "--speed", "50", "--loopback-prefix", "127.201", "--chaos", "--seed", "7",
		}, in, io.Discard)
		ended <- errors.Join(err, in.Close())
	}()
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		t.Fatal(err)
	}
	var ready struct {
		URL, Factory string
		Speed        float64
		AWS          map[string]string
	}
	if err := json.Unmarshal(line, &ready); err != nil {
		t.Fatal(err)
	}
	if ready.Speed != 50 {
		t.Errorf("speed %g, want 50", ready.Speed)
	}
	for _, u := range []string{ready.URL + "_devcloud/state", ready.Factory + "versions"} {
		if status, err := get(t.Context(), u); err != nil || status != http.StatusOK {
			t.Errorf("%s: status %d, %v", u, status, err)
		}
	}
	if ready.AWS["AWS_ENDPOINT_URL_EC2"] != ready.URL+"aws/ec2/" || ready.AWS["AWS_REGION"] != "eu-central-1" || ready.AWS["AWS_ACCESS_KEY_ID"] == "" {
		t.Errorf("environment of AWS: %v", ready.AWS)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if _, err := get(t.Context(), ready.URL+"_devcloud/state"); err == nil {
		t.Error("still served after the end")
	}
}

func get(ctx context.Context, url string) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	return res.StatusCode, res.Body.Close()
}

func TestBadArguments(t *testing.T) {
	for _, args := range [][]string{
		{"--image-host", "nothing"},
		{"left-over"},
		{"--listen", "127.0.0.1:0", "--factory-listen", "127.0.0.1:0", "--loopback-prefix", "10.1"},
		{"--listen", "127.0.0.1:0", "--factory-listen", "127.0.0.1:0", "--loopback-prefix", "127.0"},
		{"--listen", "not an address"},
	} {
		if err := run(t.Context(), args, io.Discard, io.Discard); err == nil {
			t.Errorf("%q: no error", args)
		}
	}
}
