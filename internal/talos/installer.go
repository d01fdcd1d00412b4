package talos

import (
	"context"
	"encoding/json"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"github.com/siderolabs/image-factory/pkg/client"

	"github.com/ichor-project/ichor/internal/fault"
)

// Media types of manifests, those of the OCI and Docker's own.
const (
	ociIndex       = "application/vnd.oci.image.index.v1+json"
	ociManifest    = "application/vnd.oci.image.manifest.v1+json"
	dockerIndex    = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
)

// manifestMost bounds what is read of a manifest; the registries that Talos
// installers are in allow 4 MiB.
const manifestMost = 4 << 20

// manifest is an index of images, or one image.
type manifest struct {
	Manifests []struct {
		Digest   string `json:"digest"`
		Platform struct {
			Architecture string `json:"architecture"`
		} `json:"platform"`
	} `json:"manifests"`
	Config blob   `json:"config"`
	Layers []blob `json:"layers"`
}

type blob struct {
	Size int64 `json:"size"`
}

// InstallerBytes returns how many bytes a node downloads for an installer image:
// its layers and its config, as packed as the registry has them. Of an image for
// several architectures it is the largest. The factory sends to the registry that
// holds the image, which must let anonymous readers read it, as it must for nodes.
// Errors as of CheckInstaller; Internal when what it answers is no manifest.
func (f Factory) InstallerBytes(ctx context.Context, image string) (int64, error) {
	const op = "read the size of the installer"
	name, tag, err := f.reference(op, image)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, installerTimeout)
	defer cancel()
	top, err := f.manifest(ctx, op, name, tag)
	if err != nil {
		return 0, err
	}
	all := []manifest{top}
	if len(top.Manifests) > 0 {
		all = nil
	}
	for _, m := range top.Manifests {
		// Attestations are listed like images, of no architecture.
		if arch := m.Platform.Architecture; arch == "" || arch == "unknown" {
			continue
		}
		one, err := f.manifest(ctx, op, name, m.Digest)
		if err != nil {
			return 0, err
		}
		all = append(all, one)
	}
	var most int64
	for _, m := range all {
		sum := m.Config.Size
		for _, l := range m.Layers {
			sum += l.Size
		}
		most = max(most, sum)
	}
	if most <= 0 {
		return 0, fault.New(fault.Internal, op, "the manifest of %s names no layers", image)
	}
	return most, nil
}

// reference splits an image of this factory into name and tag.
func (f Factory) reference(op, image string) (name, tag string, err error) {
	rest, ours := strings.CutPrefix(image, f.host()+"/")
	colon := strings.LastIndex(rest, ":")
	if !ours || colon < 0 {
		return "", "", fault.New(fault.Invalid, op, "%q is no installer image of the factory %s", image, f.base())
	}
	return rest[:colon], rest[colon+1:], nil
}

// manifest reads one manifest, wherever the factory sends, as nobody in particular.
func (f Factory) manifest(ctx context.Context, op, name, reference string) (manifest, error) {
	got, err := f.get(ctx, op, f.base()+"/v2/"+name+"/manifests/"+reference, "")
	if err == nil && got.status == http.StatusUnauthorized {
		var token string
		if token, err = f.anonymous(ctx, op, got.challenge); err != nil {
			return manifest{}, err
		}
		// The registry itself: a client drops the token on the way to another host.
		got, err = f.get(ctx, op, got.from.String(), token)
	}
	if err != nil {
		return manifest{}, err
	}
	var out manifest
	err = got.decode(op, &out)
	return out, err
}

// answer is what a registry said in the end.
type answer struct {
	from      *url.URL // after all redirections
	status    int
	challenge string
	body      []byte
}

// get asks for a manifest or a token.
func (f Factory) get(ctx context.Context, op, address, token string) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return answer{}, fault.New(fault.Invalid, op, "the image factory or its registry names an address that is none")
	}
	req.Header.Set("Accept", strings.Join([]string{ociIndex, ociManifest, dockerIndex, dockerManifest, "application/json"}, ", "))
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := f.patient().Do(req)
	if err != nil {
		return answer{}, factoryError(op, err)
	}
	out := answer{from: resp.Request.URL, status: resp.StatusCode, challenge: resp.Header.Get("WWW-Authenticate")}
	out.body, err = io.ReadAll(io.LimitReader(resp.Body, manifestMost))
	if closeErr := resp.Body.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return answer{}, factoryError(op, err)
	}
	return out, nil
}

func (a answer) decode(op string, out any) error {
	if a.status != http.StatusOK {
		return factoryError(op, &client.HTTPError{Code: a.status, Message: a.from.Host + ": " + http.StatusText(a.status)})
	}
	if err := json.Unmarshal(a.body, out); err != nil {
		return fault.New(fault.Internal, op, "%s answers something else than JSON", a.from.Host)
	}
	return nil
}

// patient is the client without its own deadline: a factory builds before it
// answers.
func (f Factory) patient() *http.Client {
	h := http.Client{}
	if f.HTTP != nil {
		h = *f.HTTP
	}
	h.Timeout = 0
	return &h
}

// anonymous asks for the token that a registry wants of anonymous readers, too.
// Nothing that is secret is sent.
func (f Factory) anonymous(ctx context.Context, op, challenge string) (string, error) {
	scheme, rest, _ := strings.Cut(challenge, " ")
	// The parameters are those of a media type, but for their separator.
	_, values, err := mime.ParseMediaType("x/y;" + strings.ReplaceAll(rest, `",`, `";`))
	realm, urlErr := url.Parse(values["realm"])
	if err != nil || urlErr != nil || !strings.EqualFold(scheme, "bearer") || realm.Scheme != "https" {
		return "", fault.New(fault.Unauthorized, op, "the registry of the image factory lets no anonymous readers in")
	}
	query := realm.Query()
	for _, key := range []string{"service", "scope"} {
		if v := values[key]; v != "" {
			query.Set(key, v)
		}
	}
	realm.RawQuery = query.Encode()
	got, err := f.get(ctx, op, realm.String(), "")
	if err != nil {
		return "", err
	}
	var out struct {
		Token       string `json:"token"`
		AccessToken string `json:"access_token"`
	}
	if err := got.decode(op, &out); err != nil {
		return "", err
	}
	return firstOf(out.Token, out.AccessToken), nil
}
