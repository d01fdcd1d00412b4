// Package query speaks the two XML protocols of AWS that post a form: EC2's own
// and the older "AWS Query" of the load balancers and of STS. Forms are decoded
// strictly: a parameter that an action does not model is refused, never ignored,
// so that nobody relies on what the stand-in does not do.
package query

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
)

// Protocol is a dialect of forms and answers.
type Protocol int

// The protocols.
const (
	// EC2 has flat lists (InstanceId.1) and a document without a result element.
	EC2 Protocol = iota
	// Query has lists of members (Targets.member.1) and wraps results.
	Query
)

// Error is a refusal with one of AWS' codes. A zero Status means 400.
type Error struct {
	Code, Message string
	Status        int
}

func (e *Error) Error() string { return e.Code + ": " + e.Message }

// Refuse returns an Error with status 400.
func Refuse(code, format string, args ...any) error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...), Status: http.StatusBadRequest}
}

// IsCode reports whether err is a refusal with a code.
func IsCode(err error, code string) bool {
	var e *Error
	return errors.As(err, &e) && e.Code == code
}

// Action serves one action. What it returns is encoded by encoding/xml; lists of
// EC2 are fields tagged like `xml:"reservationSet>item"`, those of Query like
// `xml:"TargetGroups>member"`.
type Action func(ctx context.Context, form url.Values) (any, error)

// On makes an Action of a function on a request struct (see Decode).
func On[In, Out any](f func(context.Context, In) (Out, error)) Action {
	return func(ctx context.Context, form url.Values) (any, error) {
		var in In
		if err := Decode(form, &in); err != nil {
			return nil, err
		}
		return f(ctx, in)
	}
}

// Server is an http.Handler for the actions of one service.
type Server struct {
	Protocol Protocol
	// Version is the only one that requests may name; Namespace is that of the
	// answers.
	Version, Namespace string
	Actions            map[string]Action
	Log                *slog.Logger
}

// ServeHTTP implements http.Handler. It answers whoever asks: signatures are
// checked before.
func (s *Server) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	id := rw.Header().Get("X-Request-Id")
	if err := r.ParseForm(); err != nil {
		s.fail(rw, Refuse("MalformedQueryString", "%v", err), id)
		return
	}
	name := r.Form.Get("Action")
	act, ok := s.Actions[name]
	switch {
	case name == "":
		s.fail(rw, Refuse("MissingAction", "The request must contain the parameter Action"), id)
		return
	case !ok:
		s.fail(rw, Refuse("InvalidAction", "The action %s is not valid for this web service.", name), id)
		return
	case r.Form.Get("Version") != s.Version:
		s.fail(rw, Refuse("InvalidAction", "The action %s is not valid for version %s of this web service.", name, r.Form.Get("Version")), id)
		return
	}
	form := url.Values{}
	for k, v := range r.Form {
		if k != "Action" && k != "Version" {
			form[k] = v
		}
	}
	out, err := act(r.Context(), form)
	if err != nil {
		s.fail(rw, err, id)
		return
	}
	body, err := s.encode(name, id, out)
	if err != nil {
		s.fail(rw, err, id)
		return
	}
	s.write(rw, http.StatusOK, body)
}

func (s *Server) fail(rw http.ResponseWriter, err error, id string) {
	var e *Error
	if !errors.As(err, &e) {
		e = &Error{Code: "InternalError", Message: err.Error(), Status: http.StatusInternalServerError}
	}
	s.Refuse(rw, e, id)
}

// Refuse answers with an error document.
func (s *Server) Refuse(rw http.ResponseWriter, e *Error, requestID string) {
	status := e.Status
	if status == 0 {
		status = http.StatusBadRequest
	}
	s.write(rw, status, s.Protocol.ErrorBody(s.Namespace, e, requestID))
}

func (s *Server) write(rw http.ResponseWriter, status int, body []byte) {
	rw.Header().Set("Content-Type", "text/xml;charset=UTF-8")
	rw.WriteHeader(status)
	if _, err := rw.Write(body); err != nil && s.Log != nil {
		s.Log.Debug("answer not delivered", "error", err)
	}
}

// ErrorBody is the document that tells of a refusal.
func (p Protocol) ErrorBody(namespace string, e *Error, requestID string) []byte {
	code, message, id := escape(e.Code), escape(e.Message), escape(requestID)
	if p == EC2 {
		return []byte(xml.Header + "<Response><Errors><Error><Code>" + code + "</Code><Message>" + message +
			"</Message></Error></Errors><RequestID>" + id + "</RequestID></Response>")
	}
	party := "Sender"
	if e.Status >= http.StatusInternalServerError {
		party = "Receiver"
	}
	return []byte(xml.Header + `<ErrorResponse xmlns="` + escape(namespace) + `"><Error><Type>` + party + "</Type><Code>" + code +
		"</Code><Message>" + message + "</Message></Error><RequestId>" + id + "</RequestId></ErrorResponse>")
}

func escape(s string) string {
	var b bytes.Buffer
	xml.Escape(&b, []byte(s))
	return b.String()
}

// encode puts the fields of a value into the document of an action.
func (s *Server) encode(action, requestID string, v any) ([]byte, error) {
	var b bytes.Buffer
	name := "Result"
	if err := xml.NewEncoder(&b).EncodeElement(v, xml.StartElement{Name: xml.Name{Local: name}}); err != nil {
		return nil, fmt.Errorf("encode %s: %w", action, err)
	}
	inner := bytes.TrimSuffix(bytes.TrimPrefix(b.Bytes(), []byte("<"+name+">")), []byte("</"+name+">"))
	open := xml.Header + "<" + action + `Response xmlns="` + escape(s.Namespace) + `">`
	id := escape(requestID)
	if s.Protocol == EC2 {
		return fmt.Appendf(nil, "%s<requestId>%s</requestId>%s</%sResponse>", open, id, inner, action), nil
	}
	return fmt.Appendf(nil, "%s<%sResult>%s</%sResult><ResponseMetadata><RequestId>%s</RequestId></ResponseMetadata></%sResponse>",
		open, action, inner, action, id, action), nil
}
