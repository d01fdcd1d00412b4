package world

import "testing"

func TestImports(t *testing.T) {
	w, _, image := newWorld(t, nil)
	newer, err := w.ImportImage(ImportSpec{URL: "http://factory" + talosURL, Name: "newer", Slug: "talos", UserDataHandling: "pass-through", Zones: []string{"lpg1"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Image(newer.UUID); !IsKind(err, NotFound) {
		t.Errorf("the image exists before its import is done: %v", err)
	}
	eventually(t, "image", func() bool { _, err := w.Image(newer.UUID); return err == nil })
	s := mustServer(t, w, ServerSpec{Name: "a", Image: "custom:talos"})
	if s.Image.Guest.UUID != newer.UUID {
		t.Errorf("custom:talos is %s, want the newest, %s", s.Image.Guest.UUID, newer.UUID)
	}
	if _, err := w.CreateServer(ServerSpec{Name: "a", Flavor: "flex-8-4", Zone: "rma1", Image: newer.UUID}); !IsKind(err, Invalid) {
		t.Errorf("image of another zone: %v", err)
	}
	for _, tt := range []struct{ path, format, message string }{
		{"/nothing", "raw", "Expected HTTP 200, got HTTP 404"},
		{"/disk.raw.xz", "raw", "the image is compressed, which is not supported"},
		{"/disk.qcow2", "raw", "the image is not in raw format"},
		{"/disk.raw", "qcow2", "the image is not in qcow2 format"},
	} {
		i, err := w.ImportImage(ImportSpec{URL: "http://factory" + tt.path, Name: "x", Format: tt.format, UserDataHandling: "pass-through"})
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, tt.path, func() bool {
			got, err := w.Import(i.UUID)
			return err == nil && got.Status == ImportFailed && got.ErrorMessage == tt.message
		})
	}
	if err := w.DeleteImage(image); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Import(image); !IsKind(err, NotFound) {
		t.Errorf("the import outlives its image: %v", err)
	}
}
