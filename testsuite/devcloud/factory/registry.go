package factory

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"

	"github.com/siderolabs/image-factory/pkg/schematic"
)

// Media types of the OCI image format.
const (
	indexType    = "application/vnd.oci.image.index.v1+json"
	manifestType = "application/vnd.oci.image.manifest.v1+json"
	configType   = "application/vnd.oci.image.config.v1+json"
	layerType    = "application/vnd.oci.image.layer.v1.tar+gzip"
)

// Sizes of what an installer is made of; the real ones are of that order.
const (
	toolsBytes     = 40 << 20
	bootBytes      = 110 << 20
	extensionBytes = 8 << 20
)

// descriptor names a part of an image.
type descriptor struct {
	MediaType string    `json:"mediaType"`
	Digest    string    `json:"digest"`
	Size      int64     `json:"size"`
	Platform  *platform `json:"platform,omitempty"`
}

type platform struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
}

// document is an index or a manifest.
type document struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Manifests     []descriptor `json:"manifests,omitempty"`
	Config        *descriptor  `json:"config,omitempty"`
	Layers        []descriptor `json:"layers,omitempty"`
}

// push stores the manifests of an installer in the registry and returns the
// digest of their index. The layers themselves are nowhere.
func (f *Factory) push(path string, s schematic.Schematic) (string, error) {
	index := document{SchemaVersion: 2, MediaType: indexType}
	for _, arch := range []string{"amd64", "arm64"} {
		blob := func(kind, name string, size int64) descriptor {
			return descriptor{MediaType: kind, Digest: digest([]byte(path + arch + name)), Size: size}
		}
		config := blob(configType, "config", 1<<10)
		manifest := document{SchemaVersion: 2, MediaType: manifestType, Config: &config, Layers: []descriptor{
			blob(layerType, "tools", toolsBytes), blob(layerType, "boot", bootBytes),
		}}
		for _, e := range s.Customization.SystemExtensions.OfficialExtensions {
			manifest.Layers = append(manifest.Layers, blob(layerType, e, extensionBytes))
		}
		d, err := f.keep(manifest)
		if err != nil {
			return "", err
		}
		d.Platform = &platform{Architecture: arch, OS: "linux"}
		index.Manifests = append(index.Manifests, d)
	}
	d, err := f.keep(index)
	return d.Digest, err
}

func (f *Factory) keep(d document) (descriptor, error) {
	body, err := json.Marshal(d)
	if err != nil {
		return descriptor{}, err
	}
	out := descriptor{MediaType: d.MediaType, Digest: digest(body), Size: int64(len(body))}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.manifests[out.Digest] = body
	return out, nil
}

func digest(body []byte) string {
	sum := sha256.Sum256(body)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// manifest answers as the registry that holds what the factory has built.
func (f *Factory) manifest(rw http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	body, ok := f.manifests[r.PathValue("digest")]
	f.mu.Unlock()
	var d document
	if !ok || json.Unmarshal(body, &d) != nil {
		http.Error(rw, `{"errors":[{"code":"MANIFEST_UNKNOWN"}]}`, http.StatusNotFound)
		return
	}
	rw.Header().Set("Content-Type", d.MediaType)
	rw.Header().Set("Docker-Content-Digest", r.PathValue("digest"))
	if _, err := rw.Write(body); err != nil {
		f.log.Debug("answer not delivered", "error", err)
	}
}
