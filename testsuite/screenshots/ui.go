package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// preferences are what a person would set in the Temporal UI: the columns of the
// list of workflows, and events from first to last.
const preferences = `<script>
localStorage.setItem("namespace-workflow-table-columns", JSON.stringify({default: [
  {label: "Status"}, {label: "Workflow ID"}, {label: "Type"}, {label: "IchorCluster"}, {label: "IchorPhase"},
  {label: "IchorKind"}, {label: "Start"}]}));
localStorage.setItem("eventFilterSort", JSON.stringify("ascending"));
localStorage.setItem("minimizeEventView", "false");
localStorage.setItem("savedQueryNavOpen", "false");
</script>`

// proxy is the Temporal UI with preferences in every page: the browser keeps
// them by origin and has no other way to be given any.
type proxy struct {
	url    string
	server *http.Server
	served chan error
}

func dressed(ctx context.Context, ui string) (*proxy, error) {
	target, err := url.Parse(ui)
	if err != nil {
		return nil, err
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	handler := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Header.Del("Accept-Encoding")
		},
		ModifyResponse: dress,
	}
	p := &proxy{
		url: "http://" + l.Addr().String(), served: make(chan error, 1),
		server: &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second},
	}
	go func() { p.served <- p.server.Serve(l) }()
	return p, nil
}

func dress(res *http.Response) error {
	if !strings.HasPrefix(res.Header.Get("Content-Type"), "text/html") {
		return nil
	}
	body, err := io.ReadAll(res.Body)
	if err = errors.Join(err, res.Body.Close()); err != nil {
		return err
	}
	body = bytes.Replace(body, []byte("<head>"), []byte("<head>"+preferences), 1)
	res.Header.Del("Content-Security-Policy")
	res.Header.Set("Content-Length", strconv.Itoa(len(body)))
	res.ContentLength, res.Body = int64(len(body)), io.NopCloser(bytes.NewReader(body))
	return nil
}

func (p *proxy) close() error {
	err := p.server.Close()
	if served := <-p.served; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}
