package account

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"

	"github.com/ichor-project/ichor/testsuite/devcloud/aws/query"
)

// token is a client token that has been used: what with, and what came of it.
type token struct{ params, made string }

// maxToken is the longest client token.
const maxToken = 64

// replay returns what an action made for a client token before; nothing if it is
// new or empty. The parameters must be the same. The caller holds the lock.
func (v View) replay(client string, params ...any) (string, error) {
	if client == "" {
		return "", nil
	}
	if len(client) > maxToken || !ascii(client) {
		return "", query.Refuse("InvalidParameterValue", "Value (%s) for parameter clientToken is invalid. Up to 64 ASCII characters are allowed.", client)
	}
	t, ok := v.a.tokens[v.Action+" "+client]
	if !ok {
		return "", nil
	}
	if t.params != digest(params) {
		return "", query.Refuse("IdempotentParameterMismatch",
			"Arguments on this idempotent request are inconsistent with arguments used in previous request(s).")
	}
	return t.made, nil
}

// keep remembers what a client token made. The caller holds the lock.
func (v View) keep(client, made string, params ...any) {
	if client != "" {
		v.a.tokens[v.Action+" "+client] = &token{digest(params), made}
	}
}

func digest(params []any) string {
	text, err := json.Marshal(params)
	if err != nil {
		panic(err) // parameters are plain values
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return false
		}
	}
	return true
}
