package main

import (
	"archive/tar"
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// The user of the images. Kubernetes can prove that a number is not root, but
// not a name; 65532 is what images without a distribution use by convention.
const (
	userID   = 65532
	userName = "nonroot"
	home     = "/var/lib/ichor"
)

// rootsFile is the first place where Go looks for authorities on Linux.
const rootsFile = "etc/ssl/certs/ca-certificates.crt"

// entry is one file or folder of an image.
type entry struct {
	name string // without a leading slash; a folder ends in one
	mode int64
	uid  int
	body []byte
}

// baseEntries is what every image has beside its program: who the user is, whom
// to trust, a place for temporary files and one for a store.
func baseEntries(license []byte) ([]entry, error) {
	roots, err := authorities()
	if err != nil {
		return nil, err
	}
	passwd := fmt.Sprintf("root:x:0:0:root:/:/sbin/nologin\n%[1]s:x:%[2]d:%[2]d:%[1]s:%[3]s:/sbin/nologin\n", userName, userID, home)
	group := fmt.Sprintf("root:x:0:\n%s:x:%d:\n", userName, userID)
	return []entry{
		{name: "etc/", mode: 0o755},
		{name: "etc/group", mode: 0o644, body: []byte(group)},
		{name: "etc/passwd", mode: 0o644, body: []byte(passwd)},
		{name: "etc/ssl/", mode: 0o755},
		{name: "etc/ssl/certs/", mode: 0o755},
		{name: rootsFile, mode: 0o644, body: roots},
		{name: "tmp/", mode: 0o1777},
		{name: "usr/", mode: 0o755},
		{name: "usr/local/", mode: 0o755},
		{name: "usr/local/bin/", mode: 0o755},
		{name: "usr/share/", mode: 0o755},
		{name: "usr/share/licenses/", mode: 0o755},
		{name: "usr/share/licenses/ichor", mode: 0o644, body: license},
		{name: "var/", mode: 0o755},
		{name: "var/lib/", mode: 0o755},
		// Owned by the user: a volume that is mounted here takes this on.
		{name: "var/lib/ichor/", mode: 0o700, uid: userID},
	}, nil
}

// authorities is Mozilla's list in PEM. An authority that is trusted only for
// certificates of a certain time is left out: a file cannot say so, and trusting
// it without the condition would be more than its list grants.
func authorities() ([]byte, error) {
	var out bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint != nil {
			continue
		}
		cert, err := x509.ParseCertificate(root.Certificate)
		if err != nil {
			return nil, fmt.Errorf("authorities: %w", err)
		}
		fmt.Fprintf(&out, "# %s\n", cert.Subject)
		if err := pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}); err != nil {
			return nil, err
		}
	}
	return out.Bytes(), nil
}

// programEntry is the program of an image.
func programEntry(name, file string) (entry, error) {
	body, err := os.ReadFile(file)
	if err != nil {
		return entry{}, err
	}
	return entry{name: "usr/local/bin/" + name, mode: 0o755, body: body}, nil
}

// newLayer packs entries. Times are all the same, so that equal files make an
// equal layer.
func newLayer(entries []entry, at time.Time) (v1.Layer, error) {
	var packed bytes.Buffer
	w := tar.NewWriter(&packed)
	for _, e := range entries {
		header := &tar.Header{
			Name: e.name, Mode: e.mode, Uid: e.uid, Gid: e.uid, ModTime: at, Format: tar.FormatPAX,
			Typeflag: tar.TypeReg, Size: int64(len(e.body)),
		}
		if e.name[len(e.name)-1] == '/' {
			header.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(header); err != nil {
			return nil, err
		}
		if _, err := w.Write(e.body); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(packed.Bytes())), nil
	}, tarball.WithMediaType(types.OCILayer), tarball.WithCompressedCaching)
}
