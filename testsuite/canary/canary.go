// Package canary finds planted secrets. A test plants one through every door by
// which secrets enter Ichor, runs a cluster's life, and scans what Temporal,
// logs and files have kept of it. Findings name the secret and the place, never
// the value.
package canary

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// Set is a collection of named secrets. Its methods that add are not safe for
// concurrent use, the others are.
type Set struct{ secrets []secret }

type secret struct {
	name  string
	value string
	forms []form
}

// form is one way in which a secret may be written.
type form struct{ name, text string }

// Finding is a secret where it should not be.
type Finding struct {
	// Secret is the name of the secret.
	Secret string
	// Where is the place, from the outside in.
	Where string
	// How says in which form it was found, for example "gzip > base64".
	How string
}

func (f Finding) String() string {
	return fmt.Sprintf("%s is readable in %s (%s)", f.Secret, f.Where, f.How)
}

// minLength is the shortest value that is looked for; anything shorter occurs
// by chance.
const minLength = 12

// Plant makes a secret and returns its value: letters and digits, so it passes
// for a token, a password or a part of a document.
func (s *Set) Plant(name string) string {
	value := "canary" + rand.Text()
	s.add(name, value)
	return value
}

// Add looks for an existing secret, too. It panics for values that are too
// short to be told from chance: the test would prove nothing.
func (s *Set) Add(name, value string) {
	value = strings.TrimSpace(value)
	if len(value) < minLength {
		panic(fmt.Sprintf("canary: the value of %s has fewer than %d characters", name, minLength))
	}
	s.add(name, value)
}

func (s *Set) add(name, value string) {
	if slices.ContainsFunc(s.secrets, func(have secret) bool { return have.value == value }) {
		return
	}
	sec := secret{name: name, value: value, forms: []form{{"clear", value}}}
	quoted, err := json.Marshal(value)
	if err != nil {
		panic(err) // a string always marshals
	}
	for _, f := range []form{
		{"base64", strings.TrimRight(base64.StdEncoding.EncodeToString([]byte(value)), "=")},
		{"URL-safe base64", base64.RawURLEncoding.EncodeToString([]byte(value))},
		{"hexadecimal", hex.EncodeToString([]byte(value))},
		{"HEXADECIMAL", strings.ToUpper(hex.EncodeToString([]byte(value)))},
		{"JSON", string(quoted[1 : len(quoted)-1])},
		{"URL", url.QueryEscape(value)},
	} {
		if !slices.ContainsFunc(sec.forms, func(have form) bool { return have.text == f.text }) {
			sec.forms = append(sec.forms, f)
		}
	}
	s.secrets = append(s.secrets, sec)
}

// AddPrivateKey looks for a private key in PEM: as a whole, and line by line,
// since a leak may re-wrap or cut it.
func (s *Set) AddPrivateKey(name string, body []byte) {
	for n := 1; ; n++ {
		var block *pem.Block
		block, body = pem.Decode(body)
		if block == nil {
			return
		}
		if !strings.Contains(block.Type, "PRIVATE KEY") {
			continue
		}
		label := fmt.Sprintf("%s (key %d)", name, n)
		s.Add(label, string(block.Bytes))
		// The first line is the same for all keys of one type.
		lines := strings.Split(strings.TrimSpace(string(pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes}))), "\n")
		for i, line := range lines[1 : len(lines)-1] {
			if i > 0 && len(line) >= minLength {
				s.Add(label, line)
			}
		}
	}
}

// public are the names of fields that hold nothing secret in a PKI bundle.
var public = []string{"crt", "cert", "certificate", "id", "version", "contract"}

// AddDocument looks for every secret of a YAML or JSON document, such as a PKI
// bundle: each string of at least 12 characters that is not under a public name,
// and the private keys that strings carry in base64. It panics if there is none.
func (s *Set) AddDocument(name string, body []byte) {
	var doc any
	if err := yaml.Unmarshal(body, &doc); err != nil {
		panic("canary: " + name + " is neither YAML nor JSON")
	}
	before := len(s.secrets)
	s.addLeaves(name, doc)
	if len(s.secrets) == before {
		panic("canary: " + name + " holds no secrets")
	}
}

func (s *Set) addLeaves(name string, node any) {
	switch x := node.(type) {
	case map[string]any:
		for key, value := range x {
			if !slices.Contains(public, strings.ToLower(key)) {
				s.addLeaves(name+"."+key, value)
			}
		}
	case []any:
		for i, value := range x {
			s.addLeaves(fmt.Sprintf("%s[%d]", name, i), value)
		}
	case string:
		if len(strings.TrimSpace(x)) < minLength {
			return
		}
		s.Add(name, x)
		if raw, err := base64.StdEncoding.DecodeString(x); err == nil {
			s.AddPrivateKey(name, raw)
		}
		s.AddPrivateKey(name, []byte(x))
	}
}

// Names lists the secrets, sorted, without duplicates.
func (s *Set) Names() []string {
	var names []string
	for _, sec := range s.secrets {
		names = append(names, sec.name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}
