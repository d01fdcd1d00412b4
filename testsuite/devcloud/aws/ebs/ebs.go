// Package ebs serves the EBS direct APIs that write snapshots, which speak JSON.
package ebs

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strconv"

	"github.com/ichor-project/ichor/testsuite/devcloud/aws/account"
	"github.com/ichor-project/ichor/testsuite/devcloud/aws/query"
	"github.com/ichor-project/ichor/testsuite/devcloud/faults"
)

// Server is an http.Handler for requests whose signatures have been checked.
type Server struct {
	account *account.Account
	log     *slog.Logger
	mux     *http.ServeMux
}

// New returns a server for an account, whose paths begin with prefix.
func New(a *account.Account, prefix string, log *slog.Logger) *Server {
	s := &Server{account: a, log: log, mux: http.NewServeMux()}
	s.mux.HandleFunc("POST "+prefix+"/snapshots", s.start)
	s.mux.HandleFunc("PUT "+prefix+"/snapshots/{id}/blocks/{index}", s.put)
	s.mux.HandleFunc("POST "+prefix+"/snapshots/completion/{id}", s.complete)
	return s
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(rw http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(rw, r) }

func (s *Server) view(r *http.Request, action string) account.View {
	v := s.account.View(action)
	v.Stale = faults.FromContext(r.Context()).Stale
	return v
}

// startRequest has the fields of StartSnapshot that are modelled; others are
// refused.
type startRequest struct {
	VolumeSize               int64
	ClientToken, Description string
	Tags                     []account.Tag
	Timeout                  int
	Encrypted                bool
}

func (s *Server) start(rw http.ResponseWriter, r *http.Request) {
	var in startRequest
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&in); err != nil {
		s.Refuse(rw, query.Refuse("ValidationException", "%v", err))
		return
	}
	if len(in.ClientToken) > 255 {
		s.Refuse(rw, query.Refuse("ValidationException", "The client token is too long."))
		return
	}
	made, err := s.view(r, "StartSnapshot").StartSnapshot(account.SnapshotSpec{
		SizeGB: int(in.VolumeSize), Description: in.Description, ClientToken: in.ClientToken, Tags: in.Tags,
	})
	if err != nil {
		s.Refuse(rw, err)
		return
	}
	s.reply(rw, http.StatusCreated, map[string]any{
		"SnapshotId": made.ID, "OwnerId": account.AccountID, "Status": made.State, "StartTime": float64(made.Created.UnixMilli()) / 1000,
		"VolumeSize": made.SizeGB, "BlockSize": account.BlockSize, "Description": made.Description, "Tags": s.account.Tags(made.ID),
	})
}

func (s *Server) put(rw http.ResponseWriter, r *http.Request) {
	index, err := strconv.Atoi(r.PathValue("index"))
	if err != nil {
		s.Refuse(rw, query.Refuse("ValidationException", "The block index is not a number."))
		return
	}
	data, err := io.ReadAll(r.Body)
	if err != nil {
		s.Refuse(rw, query.Refuse("ValidationException", "%v", err))
		return
	}
	if r.Header.Get("X-Amz-Checksum-Algorithm") != "SHA256" || r.Header.Get("X-Amz-Data-Length") != strconv.Itoa(len(data)) {
		s.Refuse(rw, query.Refuse("ValidationException", "The checksum algorithm must be SHA256 and the data length that of the body."))
		return
	}
	sum := r.Header.Get("X-Amz-Checksum")
	if err := s.view(r, "PutSnapshotBlock").PutBlock(r.PathValue("id"), index, data, sum); err != nil {
		s.Refuse(rw, err)
		return
	}
	rw.Header().Set("X-Amz-Checksum", sum)
	rw.Header().Set("X-Amz-Checksum-Algorithm", "SHA256")
	s.reply(rw, http.StatusCreated, struct{}{})
}

func (s *Server) complete(rw http.ResponseWriter, r *http.Request) {
	blocks, err := strconv.Atoi(r.Header.Get("X-Amz-Changedblockscount"))
	if err != nil {
		s.Refuse(rw, query.Refuse("ValidationException", "The number of changed blocks is missing."))
		return
	}
	state, err := s.view(r, "CompleteSnapshot").CompleteSnapshot(r.PathValue("id"), blocks, r.Header.Get("X-Amz-Checksum"))
	if err != nil {
		s.Refuse(rw, err)
		return
	}
	s.reply(rw, http.StatusAccepted, map[string]string{"Status": state})
}

// statuses are those of the codes; others are 400.
var statuses = map[string]int{
	"AccessDeniedException": http.StatusForbidden, "ConflictException": http.StatusServiceUnavailable,
	"InternalServerException": http.StatusInternalServerError, "ResourceNotFoundException": http.StatusNotFound,
	"ServiceQuotaExceededException": http.StatusPaymentRequired, "UnrecognizedClientException": http.StatusForbidden,
	"InvalidSignatureException": http.StatusForbidden,
}

// Refuse answers with an error.
func (s *Server) Refuse(rw http.ResponseWriter, err error) {
	var e *query.Error
	if !errors.As(err, &e) {
		e = &query.Error{Code: "InternalServerException", Message: err.Error()}
	}
	status, ok := statuses[e.Code]
	if !ok {
		status = http.StatusBadRequest
	}
	rw.Header().Set("X-Amzn-Errortype", e.Code)
	s.reply(rw, status, map[string]string{"message": e.Message})
}

func (s *Server) reply(rw http.ResponseWriter, status int, v any) {
	rw.Header().Set("Content-Type", "application/json")
	rw.WriteHeader(status)
	if err := json.NewEncoder(rw).Encode(v); err != nil && s.log != nil {
		s.log.Debug("answer not delivered", "error", err)
	}
}

// Body is the error document for a code, for answers that never reach the
// service. The document itself names the code, since headers are not its to set.
func Body(e *query.Error) (int, []byte) {
	status, ok := statuses[e.Code]
	if !ok {
		status = http.StatusBadRequest
	}
	if e.Status != 0 {
		status = e.Status
	}
	body, err := json.Marshal(map[string]string{"__type": e.Code, "message": e.Message})
	if err != nil {
		panic(err) // two strings
	}
	return status, body
}
