package s3

import (
	"bytes"
	"net/http"
	"strconv"
	"strings"
)

// damage is an answer to a read that does not arrive as it was sent.
type damage struct {
	contains string
	times    int
	spoil    func(w http.ResponseWriter, a *answer)
}

// Damaged puts the damage that Garble and Cut order in front of the server, or
// of what already stands in front of it.
func (s *Server) Damaged(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if d, ok := s.next(r); ok {
			d.serve(next, w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// Garble flips one bit in each of the next answers to reads of objects whose
// key contains a text.
func (s *Server) Garble(contains string, times int) {
	s.spoil(contains, times, func(w http.ResponseWriter, a *answer) {
		body := bytes.Clone(a.body.Bytes())
		if len(body) > 0 {
			body[len(body)/2] ^= 1
		}
		a.send(w, body)
	})
}

// Cut breaks the connection in the middle of each of the next answers to reads
// of objects whose key contains a text.
func (s *Server) Cut(contains string, times int) {
	s.spoil(contains, times, func(w http.ResponseWriter, a *answer) {
		body := a.body.Bytes()
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		a.send(w, body[:len(body)/2])
		if f, ok := w.(http.Flusher); ok {
			f.Flush() // or else nothing arrives, not even the headers
		}
		panic(http.ErrAbortHandler)
	})
}

func (s *Server) spoil(contains string, times int, how func(http.ResponseWriter, *answer)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.damage = append(s.damage, damage{contains: contains, times: times, spoil: how})
}

// next returns the damage that this request meets.
func (s *Server) next(r *http.Request) (damage, bool) {
	bucketAndKey := strings.Trim(strings.TrimPrefix(r.URL.Path, s.prefix), "/")
	if r.Method != http.MethodGet || !strings.Contains(bucketAndKey, "/") {
		return damage{}, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.damage {
		if d := &s.damage[i]; d.times > 0 && strings.Contains(bucketAndKey, d.contains) {
			d.times--
			return *d, true
		}
	}
	return damage{}, false
}

func (d damage) serve(next http.Handler, w http.ResponseWriter, r *http.Request) {
	a := newAnswer()
	next.ServeHTTP(a, r)
	if a.status != http.StatusOK {
		a.send(w, a.body.Bytes())
		return
	}
	d.spoil(w, a)
}

// answer is an answer that is not sent yet.
type answer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func newAnswer() *answer { return &answer{header: http.Header{}, status: http.StatusOK} }

func (a *answer) Header() http.Header         { return a.header }
func (a *answer) WriteHeader(status int)      { a.status = status }
func (a *answer) Write(b []byte) (int, error) { return a.body.Write(b) }

func (a *answer) send(w http.ResponseWriter, body []byte) {
	for k, v := range a.header {
		if w.Header().Get(k) == "" {
			w.Header()[k] = v
		}
	}
	w.WriteHeader(a.status)
	_, _ = w.Write(body) // fails when the client has gone
}
