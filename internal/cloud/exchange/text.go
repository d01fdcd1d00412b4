package exchange

import (
	"context"
	"encoding/json"
	"errors"
)

// maxMessage keeps messages readable in lists and histories, in characters.
const maxMessage = 300

// Clip cuts a message of the cloud to a length that can be read.
func Clip(s string) string {
	if r := []rune(s); len(r) > maxMessage {
		return string(r[:maxMessage]) + "…"
	}
	return s
}

// Reason is why an exchange failed, where that is the same for all APIs, without
// what the reader knows already; ok is false for everything else.
func Reason(err error) (reason string, ok bool) {
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "no answer in time", true
	case errors.Is(err, context.Canceled):
		return "cancelled", true
	}
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	if errors.As(err, &syntax) || errors.As(err, &kind) {
		return "not the JSON that was expected", true
	}
	return "", false
}
