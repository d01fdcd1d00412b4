package ccm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// cloudTimeout is the real controller's default (CLOUDSCALE_API_TIMEOUT).
const cloudTimeout = 20 * time.Second

// maxBody bounds an answer: some thousand servers.
const maxBody = 64 << 20

var errNoServer = errors.New("the cloud has no such server")

type settings struct{ url, token string }

// cloud reads servers from cloudscale.ch's API.
type cloud struct {
	settings
	client *http.Client
}

func newCloud(s settings) *cloud {
	return &cloud{settings: s, client: &http.Client{Timeout: cloudTimeout, Transport: &http.Transport{}}}
}

func (c *cloud) close() { c.client.CloseIdleConnections() }

// server is what the controller reads of a server.
type server struct {
	UUID   string `json:"uuid"`
	Name   string `json:"name"`
	Status string `json:"status"`
	Flavor struct {
		Slug string `json:"slug"`
	} `json:"flavor"`
	Zone struct {
		Slug string `json:"slug"`
	} `json:"zone"`
	Interfaces []struct {
		Type      string `json:"type"`
		Addresses []struct {
			Address string `json:"address"`
		} `json:"addresses"`
	} `json:"interfaces"`
}

// addresses are a node's: what is public is external.
func (s server) addresses() []corev1.NodeAddress {
	var all []corev1.NodeAddress
	for _, iface := range s.Interfaces {
		kind := corev1.NodeInternalIP
		if iface.Type == "public" {
			kind = corev1.NodeExternalIP
		}
		for _, address := range iface.Addresses {
			all = append(all, corev1.NodeAddress{Type: kind, Address: address.Address})
		}
	}
	return all
}

// region is the zone without its number.
func (s server) region() string { return strings.TrimRight(s.Zone.Slug, "0123456789") }

func (c *cloud) servers(ctx context.Context) ([]server, error) {
	var all []server
	return all, c.get(ctx, "v1/servers", &all)
}

func (c *cloud) server(ctx context.Context, uuid string) (server, error) {
	var one server
	return one, c.get(ctx, "v1/servers/"+url.PathEscape(uuid), &one)
}

func (c *cloud) get(ctx context.Context, path string, into any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimRight(c.url, "/")+"/"+path, nil)
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+c.token)
	request.Header.Set("User-Agent", "cloudscale-cloud-controller-manager")
	response, err := c.client.Do(request)
	if err != nil {
		return err
	}
	body, readErr := io.ReadAll(io.LimitReader(response.Body, maxBody))
	if err := errors.Join(readErr, response.Body.Close()); err != nil {
		return err
	}
	switch response.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound:
		return fmt.Errorf("GET %s: %w", path, errNoServer)
	default:
		return fmt.Errorf("GET %s: %s", path, response.Status)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("GET %s: %w", path, err)
	}
	return nil
}
