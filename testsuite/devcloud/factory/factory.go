// Package factory stands in for the Talos Image Factory: it knows schematics by
// their true ids, lists versions and extensions, and serves tiny bodies where
// the real one serves disk images. A schematic must have been posted before its
// images can be fetched, except the empty one.
package factory

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/siderolabs/image-factory/pkg/client"
	"github.com/siderolabs/image-factory/pkg/schematic"

	"github.com/ichor-project/ichor/testsuite/devcloud/guest"
)

// Factory is an http.Handler.
type Factory struct {
	mux   *http.ServeMux
	log   *slog.Logger
	stock string

	mu         sync.Mutex
	schematics map[string]schematic.Schematic
	manifests  map[string][]byte // of installers, by digest
}

// New returns a factory that knows the empty schematic.
func New(log *slog.Logger) (*Factory, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	f := &Factory{mux: http.NewServeMux(), log: log, schematics: map[string]schematic.Schematic{}, manifests: map[string][]byte{}}
	stock, err := f.put(schematic.Schematic{})
	if err != nil {
		return nil, err
	}
	f.stock = stock
	f.mux.HandleFunc("POST /schematics", f.create)
	f.mux.HandleFunc("GET /versions", func(rw http.ResponseWriter, _ *http.Request) { f.reply(rw, http.StatusOK, Versions()) })
	f.mux.HandleFunc("GET /version/{version}/extensions/official", f.extensions)
	f.mux.HandleFunc("GET /version/{version}/overlays/official", f.overlays)
	f.mux.HandleFunc("GET /image/{schematic}/{version}/{file}", f.image)
	f.mux.HandleFunc("GET /v2/{image}/{schematic}/manifests/{tag}", f.installer)
	f.mux.HandleFunc("GET /registry/v2/{image}/{schematic}/manifests/{digest}", f.manifest)
	return f, nil
}

// ServeHTTP implements http.Handler.
func (f *Factory) ServeHTTP(rw http.ResponseWriter, r *http.Request) { f.mux.ServeHTTP(rw, r) }

// Stock returns the id of the empty schematic, of which published images are
// made.
func (f *Factory) Stock() string { return f.stock }

// Versions returns the Talos versions that have images, oldest first.
func Versions() []string {
	var out []string
	for _, v := range []struct{ minor, patches int }{{11, 7}, {12, 9}, {13, 10}, {14, 2}} {
		for p := range v.patches {
			out = append(out, fmt.Sprintf("v1.%d.%d", v.minor, p))
		}
	}
	return out
}

// officialExtensions are the names this stand-in knows; the real factory has
// more, and all of them for every version here.
var officialExtensions = []string{
	"amd-ucode", "btrfs", "drbd", "fuse3", "gvisor", "hello-world-service", "intel-ucode", "iscsi-tools",
	"nvidia-container-toolkit-production", "nvidia-open-gpu-kernel-modules-production", "qemu-guest-agent", "stargz-snapshotter",
	"tailscale", "util-linux-tools", "wasmedge", "zfs",
}

func (f *Factory) put(s schematic.Schematic) (string, error) {
	id, err := s.ID()
	if err != nil {
		return "", fmt.Errorf("schematic id: %w", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.schematics[id] = s
	return id, nil
}

func (f *Factory) get(id string) (schematic.Schematic, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s, ok := f.schematics[id]
	return s, ok
}

func (f *Factory) create(rw http.ResponseWriter, r *http.Request) {
	data, err := io.ReadAll(http.MaxBytesReader(rw, r.Body, 1<<20))
	if err != nil {
		http.Error(rw, err.Error(), http.StatusBadRequest)
		return
	}
	s, err := schematic.Unmarshal(data)
	if err != nil {
		http.Error(rw, err.Error(), http.StatusBadRequest)
		return
	}
	id, err := f.put(*s)
	if err != nil {
		http.Error(rw, err.Error(), http.StatusInternalServerError)
		return
	}
	f.reply(rw, http.StatusCreated, map[string]string{"id": id})
}

func (f *Factory) extensions(rw http.ResponseWriter, r *http.Request) {
	version := "v" + strings.TrimPrefix(r.PathValue("version"), "v")
	if !slices.Contains(Versions(), version) {
		http.Error(rw, "Talos version "+version+" is not available", http.StatusNotFound)
		return
	}
	out := []client.ExtensionInfo{}
	for _, name := range officialExtensions {
		sum := sha256.Sum256([]byte(name + version))
		out = append(out, client.ExtensionInfo{
			Name: "siderolabs/" + name, Ref: "ghcr.io/siderolabs/" + name + ":" + version, Digest: "sha256:" + hex.EncodeToString(sum[:]),
			Author: "Sidero Labs", Description: name,
		})
	}
	f.reply(rw, http.StatusOK, out)
}

func (f *Factory) overlays(rw http.ResponseWriter, _ *http.Request) {
	f.reply(rw, http.StatusOK, []client.OverlayInfo{})
}

func (f *Factory) reply(rw http.ResponseWriter, status int, v any) {
	rw.Header().Set("Content-Type", "application/json")
	rw.WriteHeader(status)
	if err := json.NewEncoder(rw).Encode(v); err != nil {
		f.log.Debug("answer not delivered", "error", err)
	}
}

var imageFile = regexp.MustCompile(`^([a-z]+)-(amd64|arm64)\.(raw|qcow2)(\.xz|\.gz|\.zst)?$`)

// image answers GET and HEAD of an image. The body names what it stands for,
// behind the magic number of its format.
func (f *Factory) image(rw http.ResponseWriter, r *http.Request) {
	id, version, file := r.PathValue("schematic"), r.PathValue("version"), r.PathValue("file")
	s, ok := f.get(id)
	if !ok {
		http.Error(rw, "schematic ID "+id+" not found", http.StatusNotFound)
		return
	}
	version = "v" + strings.TrimPrefix(version, "v")
	if !slices.Contains(Versions(), version) {
		http.Error(rw, "Talos version "+version+" is not available", http.StatusNotFound)
		return
	}
	m := imageFile.FindStringSubmatch(file)
	if m == nil {
		http.Error(rw, "error parsing profile from path: "+file, http.StatusBadRequest)
		return
	}
	if missing := unknownExtension(s); missing != "" {
		http.Error(rw, "official extension "+missing+" is not available for Talos version "+version, http.StatusBadRequest)
		return
	}
	magic := map[string]string{".xz": "\xfd7zXZ\x00", ".gz": "\x1f\x8b", ".zst": "\x28\xb5\x2f\xfd"}[m[4]]
	if magic == "" && m[3] == "qcow2" {
		magic = "QFI\xfb"
	}
	body := fmt.Sprintf("%s%s %s %s", magic, id, version, file)
	if m[1] == "aws" && m[3] == "raw" && (m[4] == "" || m[4] == ".gz") {
		body = string(disk(id, version, m[2]))
		if m[4] == ".gz" {
			body = zipped(body)
		}
	}
	rw.Header().Set("Content-Type", "application/octet-stream")
	rw.Header().Set("Content-Disposition", fmt.Sprintf("attachment; filename=%q", file))
	rw.Header().Set("Content-Length", fmt.Sprint(len(body)))
	if _, err := io.WriteString(rw, body); err != nil {
		f.log.Debug("answer not delivered", "error", err)
	}
}

var installerName = regexp.MustCompile(`^([a-z]+-)?installer(-secureboot)?$`)

// installer answers as a registry: the real factory builds an installer that
// nobody has asked for before, and sends to the registry that holds it.
func (f *Factory) installer(rw http.ResponseWriter, r *http.Request) {
	s, ok := f.get(r.PathValue("schematic"))
	if !ok {
		http.Error(rw, "schematic ID "+r.PathValue("schematic")+" not found", http.StatusNotFound)
		return
	}
	if !installerName.MatchString(r.PathValue("image")) {
		http.Error(rw, "invalid image: "+r.PathValue("image"), http.StatusBadRequest)
		return
	}
	if tag := r.PathValue("tag"); strings.HasPrefix(tag, "sha256:") {
		rw.Header().Set("Location", "../../../../registry/v2/"+r.PathValue("image")+"/"+r.PathValue("schematic")+"/manifests/"+tag)
		rw.WriteHeader(http.StatusTemporaryRedirect)
		return
	} else if !slices.Contains(Versions(), tag) {
		http.Error(rw, "Talos version "+tag+" is not available", http.StatusNotFound)
		return
	}
	if missing := unknownExtension(s); missing != "" {
		http.Error(rw, "official extension "+missing+" is not available for Talos version "+r.PathValue("tag"), http.StatusBadRequest)
		return
	}
	index, err := f.push(r.URL.Path, s)
	if err != nil {
		http.Error(rw, err.Error(), http.StatusInternalServerError)
		return
	}
	rw.Header().Set("Location", "../../../../registry/v2/"+r.PathValue("image")+"/"+r.PathValue("schematic")+"/manifests/"+index)
	rw.WriteHeader(http.StatusTemporaryRedirect)
}

// unknownExtension returns an extension that no version has, or nothing.
func unknownExtension(s schematic.Schematic) string {
	for _, e := range s.Customization.SystemExtensions.OfficialExtensions {
		if !slices.Contains(officialExtensions, strings.TrimPrefix(e, "siderolabs/")) {
			return e
		}
	}
	return ""
}

// Extensions returns the extensions of a schematic, and false when there is no
// installer of it for a version.
func (f *Factory) Extensions(id, version string) ([]string, bool) {
	s, ok := f.get(id)
	if !ok || !slices.Contains(Versions(), version) {
		return nil, false
	}
	return slices.Clone(s.Customization.SystemExtensions.OfficialExtensions), true
}

// Describe tells what an image of this factory boots, from its address alone.
func (f *Factory) Describe(address string) (guest.Image, bool) {
	u, err := url.Parse(address)
	if err != nil {
		return guest.Image{}, false
	}
	parts := strings.Split(strings.TrimPrefix(u.Path, "/"), "/")
	if len(parts) != 4 || parts[0] != "image" {
		return guest.Image{}, false
	}
	s, ok := f.get(parts[1])
	m := imageFile.FindStringSubmatch(parts[3])
	if !ok || m == nil || m[4] != "" {
		return guest.Image{}, false
	}
	return guest.Image{
		Schematic: parts[1], TalosVersion: "v" + strings.TrimPrefix(parts[2], "v"), Platform: m[1], Arch: m[2],
		Extensions: slices.Clone(s.Customization.SystemExtensions.OfficialExtensions),
	}, true
}
