package secrets

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestValueNeverPrints(t *testing.T) {
	v := NewValue([]byte("hunter2"))
	var buf bytes.Buffer
	slog.New(slog.NewTextHandler(&buf, nil)).Info("x", "v", v, "p", &v)
	for _, s := range []string{
		fmt.Sprint(v), fmt.Sprintf("%v %+v %#v %s %q %x", v, v, v, v, v, v),
		fmt.Sprintf("%v", struct{ V Value }{v}), buf.String(),
	} {
		if strings.Contains(s, "hunter2") || strings.Contains(s, "68756e74657232") {
			t.Errorf("the secret is visible in %q", s)
		}
	}
	if _, err := json.Marshal(struct{ V Value }{v}); err == nil {
		t.Error("a Value was marshalled")
	}
	if got := NewValue([]byte(" token\n")).RevealString(); got != "token" {
		t.Errorf("RevealString = %q", got)
	}
}

func TestRefValidate(t *testing.T) {
	for ref, ok := range map[Ref]bool{
		"env:TOKEN": true, "file:/etc/token": true, "store:clusters/demo/x": true,
		"kube:kube-system/cloudscale#access-token": true,
		"": false, "env:": false, "kube:x#y": false, "kube:a/b": false, "hunter2": false, "vault:x": false,
	} {
		err := ref.Validate()
		if (err == nil) != ok {
			t.Errorf("%q: %v", ref, err)
		}
		if err != nil && ref != "" && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the error repeats the value: %v", err)
		}
	}
}
