package codec_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/converter"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/ichor-project/ichor/internal/codec"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
)

func TestHandler(t *testing.T) {
	p := encode(t, dataConverter(t, key(t, 1)), canary)
	body, err := protojson.Marshal(&commonpb.Payloads{Payloads: []*commonpb.Payload{p}})
	if err != nil {
		t.Fatal(err)
	}
	const ui = "http://localhost:8233"
	withToken := codec.ServerOptions{Keys: []codec.Key{key(t, 1)}, Token: secrets.NewValue([]byte("token\n"))}
	open := codec.ServerOptions{Keys: []codec.Key{key(t, 1)}}
	otherKey := codec.ServerOptions{Keys: []codec.Key{key(t, 2)}}
	for _, tc := range []struct {
		name    string
		o       codec.ServerOptions
		method  string
		path    string
		host    string
		headers map[string]string
		want    int
	}{
		{"token", withToken, "POST", "/decode", "", map[string]string{"Authorization": "Bearer token"}, 200},
		{"token, any case", withToken, "POST", "/ns/decode", "", map[string]string{"Authorization": "bearer token"}, 200},
		{"no token", withToken, "POST", "/decode", "", nil, 401},
		{"wrong token", withToken, "POST", "/decode", "", map[string]string{"Authorization": "Bearer tokem"}, 401},
		{"empty token", withToken, "POST", "/decode", "", map[string]string{"Authorization": "Bearer "}, 401},
		{"other scheme", withToken, "POST", "/decode", "", map[string]string{"Authorization": "Basic token"}, 401},
		{"encode with token", withToken, "POST", "/encode", "", map[string]string{"Authorization": "Bearer token"}, 200},
		{"named host with token", withToken, "POST", "/decode", "codec.example.com", map[string]string{"Authorization": "Bearer token"}, 200},
		{"preflight needs no token", withToken, "OPTIONS", "/decode", "", map[string]string{"Origin": ui}, 204},
		{"UI", withToken, "POST", "/decode", "", map[string]string{"Origin": ui, "Authorization": "Bearer token"}, 200},
		{"foreign page", withToken, "POST", "/decode", "", map[string]string{"Origin": "https://evil.example", "Authorization": "Bearer token"}, 403},
		{"foreign preflight", withToken, "OPTIONS", "/decode", "", map[string]string{"Origin": "https://evil.example"}, 403},
		{"open", open, "POST", "/decode", "127.0.0.1:8234", nil, 200},
		{"open by name", open, "POST", "/decode", "localhost:8234", nil, 200},
		{"open, rebound name", open, "POST", "/decode", "evil.example:8234", nil, 403},
		{"open does not encode", open, "POST", "/encode", "localhost:8234", nil, 403},
		{"get", open, "GET", "/decode", "localhost:8234", nil, 404},
		{"other path", open, "POST", "/", "localhost:8234", nil, 404},
		{"another key", otherKey, "POST", "/decode", "localhost:8234", nil, 400},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h, err := codec.Handler(tc.o)
			if err != nil {
				t.Fatal(err)
			}
			r := httptest.NewRequestWithContext(t.Context(), tc.method, tc.path, strings.NewReader(string(body)))
			if tc.host != "" {
				r.Host = tc.host
			}
			for k, v := range tc.headers {
				r.Header.Set(k, v)
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != tc.want {
				t.Fatalf("status %d, want %d: %s", w.Code, tc.want, w.Body)
			}
			if cors := w.Header().Get("Access-Control-Allow-Origin"); (cors == ui) != (tc.headers["Origin"] == ui) {
				t.Errorf("Access-Control-Allow-Origin %q", cors)
			}
			if tc.want == 200 && strings.HasSuffix(tc.path, "/decode") {
				var out commonpb.Payloads
				if err := protojson.Unmarshal(w.Body.Bytes(), &out); err != nil {
					t.Fatal(err)
				}
				var got string
				if err := converter.GetDefaultDataConverter().FromPayload(out.Payloads[0], &got); err != nil || got != canary {
					t.Errorf("%q %v", got, err)
				}
			}
		})
	}
}

func TestServe(t *testing.T) {
	defer goleak.VerifyNone(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	addr := make(chan net.Addr, 1)
	done := make(chan error, 1)
	go func() {
		done <- codec.Serve(ctx, codec.ServerOptions{
			Listen: "127.0.0.1:0", Keys: []codec.Key{key(t, 1)}, Token: secrets.NewValue([]byte("token")),
			Started: func(a net.Addr) { addr <- a },
		})
	}()
	base := "http://" + (<-addr).String()

	// The SDK's own client of codec servers is the judge.
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	remote := converter.NewRemoteDataConverter(converter.GetDefaultDataConverter(), converter.RemoteDataConverterOptions{
		Endpoint: base,
		Client:   http.Client{Transport: transport},
		ModifyRequest: func(r *http.Request) error {
			r.Header.Set("Authorization", "Bearer token")
			return nil
		},
	})
	p := encode(t, remote, canary)
	var got string
	if err := dataConverter(t, key(t, 1)).FromPayload(p, &got); err != nil || got != canary {
		t.Errorf("%q %v", got, err)
	}
	got = ""
	if err := remote.FromPayload(p, &got); err != nil || got != canary {
		t.Errorf("%q %v", got, err)
	}
	transport.CloseIdleConnections()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestServeRefusesUnsafeOptions(t *testing.T) {
	keys := []codec.Key{key(t, 1)}
	token := secrets.NewValue([]byte("token"))
	for name, o := range map[string]codec.ServerOptions{
		"no keys":                 {Listen: "127.0.0.1:0"},
		"open to the world":       {Listen: "0.0.0.0:0", Keys: keys, TLSCert: "c", TLSKey: "k"},
		"all interfaces":          {Listen: ":0", Keys: keys},
		"clear text to the world": {Listen: "0.0.0.0:0", Keys: keys, Token: token},
		"half of TLS":             {Listen: "127.0.0.1:0", Keys: keys, TLSCert: "c"},
	} {
		o.Started = func(net.Addr) { t.Errorf("%s: listens", name) }
		if err := codec.Serve(t.Context(), o); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	missing := codec.ServerOptions{Listen: "127.0.0.1:0", Keys: keys, TLSCert: "/nonexistent/c", TLSKey: "/nonexistent/k"}
	if err := codec.Serve(t.Context(), missing); err == nil || errors.Is(err, http.ErrServerClosed) {
		t.Errorf("missing certificate: %v", err)
	}
}
