// Package exchange is what clouds with an HTTP API share below their SDKs: a
// call is one HTTP exchange, sent within its time and rate or not at all, and
// its outcome is known exactly as far as it can be known.
//
// A cloud wraps its transport into a Transport, gives the http.Client that
// Client makes to the SDK, and sends every call through a Caller. What remains
// for it is a Classifier: the meaning of its API's errors.
package exchange
