package codec

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/converter"

	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
)

// DefaultListen is where the codec server listens when nothing is said: for
// programs of this machine only.
const DefaultListen = "127.0.0.1:8234"

// DefaultOrigins are the pages of the Temporal UI of a dev server; they may ask
// a codec server by default.
func DefaultOrigins() []string {
	return []string{"http://localhost:8233", "http://127.0.0.1:8233"}
}

// maxBody bounds one request; the Temporal UI sends the payloads of one page.
const maxBody = 32 << 20

// ServerOptions configure a codec server, which shows clear payloads to the
// Temporal UI and CLI of those who may see them.
type ServerOptions struct {
	// Listen is an address, DefaultListen by default.
	Listen string
	Keys   []Key
	// Token is what callers send as "Authorization: Bearer …". Without it the
	// server only decodes, and only on a loopback address.
	Token secrets.Value
	// Origins are the pages that browsers may ask from; DefaultOrigins when nil.
	Origins []string
	// TLSCert and TLSKey are PEM files; both or none.
	TLSCert, TLSKey string
	Logger          *slog.Logger
	// Started, when not nil, is told the address once the server listens.
	Started func(net.Addr)
}

// Serve answers until ctx ends, then finishes the requests it has and returns
// nil. Invalid when the options are unsafe or incomplete.
func Serve(ctx context.Context, o ServerOptions) error {
	const op = "serve the codec"
	if o.Listen == "" {
		o.Listen = DefaultListen
	}
	if (o.TLSCert == "") != (o.TLSKey == "") {
		return fault.New(fault.Invalid, op, "a TLS certificate and its key are given together or not at all")
	}
	if o.Token.RevealString() == "" && !loopback(o.Listen) {
		return fault.New(fault.Invalid, op, "%s can be reached from other machines; set a token, or listen on %s", o.Listen, DefaultListen)
	}
	if o.TLSCert == "" && !loopback(o.Listen) {
		return fault.New(fault.Invalid, op, "%s can be reached from other machines; set a TLS certificate, or listen on %s behind a proxy", o.Listen, DefaultListen)
	}
	handler, err := Handler(o)
	if err != nil {
		return err
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", o.Listen)
	if err != nil {
		return fault.Wrap(fault.Unavailable, op, err)
	}
	srv := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: time.Minute, WriteTimeout: time.Minute}
	if o.Logger != nil {
		srv.ErrorLog = slog.NewLogLogger(o.Logger.Handler(), slog.LevelWarn)
	}
	if o.Started != nil {
		o.Started(ln.Addr())
	}
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		stopped <- srv.Shutdown(end)
	})
	if o.TLSCert != "" {
		err = srv.ServeTLS(ln, o.TLSCert, o.TLSKey)
	} else {
		err = srv.Serve(ln)
	}
	if !stop() {
		return fault.Wrap(fault.Unavailable, op, <-stopped)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fault.Wrap(fault.Unavailable, op, errors.Join(err, ln.Close()))
}

// Handler is the codec server without the listening.
func Handler(o ServerOptions) (http.Handler, error) {
	if len(o.Keys) == 0 {
		return nil, fault.New(fault.Invalid, "serve the codec", "no keys are given")
	}
	codecs, err := Codecs(o.Keys)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, "serve the codec", err)
	}
	if o.Origins == nil {
		o.Origins = DefaultOrigins()
	}
	h := &server{
		next:     converter.NewPayloadCodecHTTPHandler(codecs...),
		origins:  o.Origins,
		hasToken: o.Token.RevealString() != "",
		token:    sha256.Sum256([]byte(o.Token.RevealString())),
	}
	return http.MaxBytesHandler(h, maxBody), nil
}

type server struct {
	next     http.Handler
	origins  []string
	hasToken bool
	token    [sha256.Size]byte
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Add("Vary", "Origin")
	w.Header().Set("Cache-Control", "no-store")
	origin := r.Header.Get("Origin")
	switch {
	case origin != "" && !slices.Contains(s.origins, origin):
		http.Error(w, "this page may not use the codec server; add its origin to the server's configuration", http.StatusForbidden)
		return
	case !s.hasToken && !loopback(r.Host):
		// A page elsewhere may have pointed its own name at this machine.
		http.Error(w, "ask for a loopback address", http.StatusForbidden)
		return
	case origin != "":
		h := w.Header()
		h.Set("Access-Control-Allow-Origin", origin)
		h.Set("Access-Control-Allow-Methods", "POST, OPTIONS")
		h.Set("Access-Control-Allow-Headers", "authorization, content-type, x-namespace")
		h.Set("Access-Control-Allow-Credentials", "true")
		h.Set("Access-Control-Max-Age", "600")
	}
	if r.Method == http.MethodOptions {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	if s.hasToken && !s.authorized(r) {
		w.Header().Set("WWW-Authenticate", `Bearer realm="ichor codec"`)
		http.Error(w, "the bearer token is missing or wrong", http.StatusUnauthorized)
		return
	}
	if !s.hasToken && strings.HasSuffix(r.URL.Path, "/encode") {
		// Who encrypts writes what workers take for genuine.
		http.Error(w, "this server only decodes, because it has no token", http.StatusForbidden)
		return
	}
	s.next.ServeHTTP(w, r)
}

// authorized compares digests, so that the time it takes says nothing about the
// token or its length.
func (s *server) authorized(r *http.Request) bool {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	sum := sha256.Sum256([]byte(strings.TrimSpace(token)))
	return strings.EqualFold(scheme, "Bearer") && subtle.ConstantTimeCompare(sum[:], s.token[:]) == 1
}

// loopback reports whether host, with or without a port, is this machine's own.
func loopback(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && ip.IsLoopback()
}
