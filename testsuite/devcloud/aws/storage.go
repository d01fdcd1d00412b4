package aws

import (
	"net/http"

	"github.com/ichor-project/ichor/testsuite/devcloud/aws/s3"
	"github.com/ichor-project/ichor/testsuite/devcloud/faults"
)

// Bucket is in object storage from the beginning; others are made by whoever
// wants them.
const Bucket = "devcloud"

// storagePath is the path of object storage; buckets follow it.
const storagePath = Path + "s3"

// newStorage opens with the account's keys, but for what is refused to them.
func newStorage(c *Cloud) *s3.Server {
	s, err := s3.New(s3.Options{Prefix: storagePath, Buckets: []string{Bucket}, Secret: c.secret, Refuses: c.storageRefuses})
	if err != nil {
		panic(err) // one bucket of one name, in memory
	}
	return s
}

// Storage gives access to object storage.
func (c *Cloud) Storage() *s3.Server { return c.storage }

// registerStorage serves object storage behind the injector: a fault on
// "PUT /aws/s3/devcloud/**" bends writes.
func (c *Cloud) registerStorage(mux *http.ServeMux, in *faults.Injector) {
	mux.Handle(storagePath+"/", c.storage.Damaged(in.WrapAs(c.storage, c.account.Latencies().API, cannedObject)))
}

// cannedObject is what a fault answers instead of object storage.
func cannedObject(f *faults.Fault) (int, string, []byte) {
	status, code := f.Status, f.Code
	def := func(s int, c string) {
		if status == 0 {
			status = s
		}
		if code == "" {
			code = c
		}
	}
	switch f.Effect {
	case faults.HTML429, faults.JSON429, faults.Window503:
		def(http.StatusServiceUnavailable, "SlowDown")
	case faults.Quota:
		def(http.StatusForbidden, "QuotaExceeded")
	default:
		def(http.StatusInternalServerError, "InternalError")
	}
	return status, "application/xml", s3.ErrorBody(code, f.Body, "")
}
