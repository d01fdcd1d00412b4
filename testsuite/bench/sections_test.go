package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestNamesOfSections(t *testing.T) {
	var have []string
	for _, s := range sections {
		have = append(have, s.name)
	}
	if diff := cmp.Diff(have, names()); diff != "" {
		t.Error(diff)
	}
}

// A section that is measured again replaces its old text and no other, wherever
// in the order it belongs.
func TestReplaceSections(t *testing.T) {
	page := replace("", "idle", "idle 1\n")
	page = replace(page, "provisioning", "provisioning 1\n")
	page = replace(page, "provider", "provider 1\n")
	page = replace(page, "provisioning", "provisioning 2\n")
	want := head + `
<!-- begin provisioning -->
provisioning 2
<!-- end provisioning -->

<!-- begin provider -->
provider 1
<!-- end provider -->

<!-- begin idle -->
idle 1
<!-- end idle -->
`
	if diff := cmp.Diff(want, page); diff != "" {
		t.Error(diff)
	}
	if text, ok := find(page, "scale-up"); ok {
		t.Errorf("a section that was never written is %q", text)
	}
	if text, ok := find(strings.TrimSuffix(page, closing("idle")), "idle"); ok {
		t.Errorf("half a section is %q", text)
	}
}

func TestParseSections(t *testing.T) {
	s, err := parse([]string{"-only", "idle,provider", "-sizes", "2x3"})
	if err != nil || !cmp.Equal(s.only, []string{"idle", "provider"}) || !cmp.Equal(s.sizes, []size{{2, 3}}, cmp.AllowUnexported(size{})) {
		t.Errorf("%+v %v", s, err)
	}
	for _, bad := range [][]string{
		{"-only", "everything"},
		{"-only", ""},
		{"-sizes", "20"},
		{"-sizes", "0x5"},
		{"-sizes", "5x-1"},
		{"-calls", "0"},
		{"-burst", "0"},
		{"-idle", "0"},
		{"-idle-every", "1ms"},
		{"-idle-rounds", "0"},
		{"-runs", "0"},
		{"-rolls", "0"},
		{"-window", "0"},
		{"-roll-speed", "0.5"},
	} {
		if _, err := parse(bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}
