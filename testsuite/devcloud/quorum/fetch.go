package quorum

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
)

// Path is where a devcloud serves its record: GET returns it, DELETE resets it.
const Path = "/_devcloud/guests/quorum"

// Fetch asks the devcloud at a base URL.
func Fetch(ctx context.Context, base string) (Report, error) {
	var r Report

	err := call(ctx, http.MethodGet, base, &r)

	return r, err
}

// Reset begins the record of the devcloud at a base URL anew.
func Reset(ctx context.Context, base string) error {
	return call(ctx, http.MethodDelete, base, nil)
}

func call(ctx context.Context, method, base string, out any) error {
	request, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(base, "/")+Path, nil)
	if err != nil {
		return fmt.Errorf("quorum: %w", err)
	}

	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("quorum: %w", err)
	}

	if response.StatusCode >= http.StatusMultipleChoices {
		err = fmt.Errorf("quorum: %s", response.Status)
	} else if out != nil {
		err = json.NewDecoder(response.Body).Decode(out)
	}

	if closeErr := response.Body.Close(); err == nil {
		err = closeErr
	}

	return err
}
