package talos

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/blang/semver/v4"
	"github.com/siderolabs/image-factory/pkg/client"
	"github.com/siderolabs/image-factory/pkg/schematic"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
)

// DefaultFactory is the public Image Factory.
const DefaultFactory = "https://factory.talos.dev"

// DefaultSchematic is the id of the schematic without any customization; the
// Image Factory derives ids from content, so it is the same everywhere.
const DefaultSchematic = "376567988ad370138ad8b2698212367b8edcb69b5fd68c80be1f2ec7d603b4ba"

// factoryTimeout bounds one request; the factory answers these from a cache or
// its database, images are never built here.
const factoryTimeout = 30 * time.Second

// Factory is an Image Factory: a service that builds Talos images and installers
// from a schematic, a description of what goes in.
type Factory struct {
	// URL is DefaultFactory when empty.
	URL string
	// HTTP is used as it is when set; it should have a timeout.
	HTTP *http.Client
}

// Target is the kind of image that a cloud takes.
type Target struct {
	Platform string // Talos' name, for example "openstack"
	Arch     string // "amd64" or "arm64"
	Format   string // suffix of the asset, for example "raw" or "qcow2"
}

// Freeze resolves the Talos part of a spec once and for all: contract, schematic,
// image and installer. Errors: Invalid naming the field, Unavailable and
// RateLimited when the factory does not serve.
func (f Factory) Freeze(ctx context.Context, talos cluster.Talos, kubernetes string, t Target) (cluster.Frozen, error) {
	out, err := f.Name(talos, kubernetes, t)
	if err != nil {
		return cluster.Frozen{}, err
	}
	if err := f.checkVersion(ctx, talos.Version); err != nil {
		return cluster.Frozen{}, err
	}
	if talos.Schematic != "" {
		return out, nil
	}
	if err := f.CheckExtensions(ctx, talos.Version, talos.Extensions); err != nil {
		return cluster.Frozen{}, err
	}
	if _, err := f.EnsureSchematic(ctx, talos.Extensions); err != nil {
		return cluster.Frozen{}, err
	}
	return out, nil
}

// Name is Freeze without the factory: it asks nobody whether version and extensions
// exist, and the schematic is not registered. Error: Invalid naming the field.
func (f Factory) Name(talos cluster.Talos, kubernetes string, t Target) (cluster.Frozen, error) {
	out := cluster.Frozen{TalosVersion: talos.Version, KubernetesVersion: kubernetes, Contract: talos.Contract, Schematic: talos.Schematic}
	var err error
	if out.Contract == "" {
		if out.Contract, err = Contract(talos.Version); err != nil {
			return cluster.Frozen{}, err
		}
	}
	if out.Schematic == "" {
		if _, out.Schematic, err = schematicOf(talos.Extensions); err != nil {
			return cluster.Frozen{}, err
		}
	} else if !schematicID.MatchString(out.Schematic) {
		return cluster.Frozen{}, fault.New(fault.Invalid, "resolve the image", "spec.talos.schematic: %q is not the 64 hex digits of a schematic", out.Schematic)
	}
	out.Image = ImageName(out.Schematic, talos.Version, t.Platform, t.Arch)
	out.ImageURL = f.AssetURL(out.Schematic, talos.Version, t)
	out.InstallerImage = f.InstallerImage(out.Schematic, talos.Version, t.Platform)
	return out, nil
}

// schematicOf is the schematic with these official extensions, and its id, which
// follows from the content.
func schematicOf(extensions []string) (s schematic.Schematic, id string, err error) {
	names := slices.Clone(extensions)
	slices.Sort(names)
	s = schematic.Schematic{Customization: schematic.Customization{
		SystemExtensions: schematic.SystemExtensions{OfficialExtensions: slices.Compact(names)},
	}}
	id, err = s.ID()
	return s, id, fault.Wrap(fault.Internal, "name the schematic", err)
}

var schematicID = regexp.MustCompile(`^[0-9a-f]{64}$`)

// EnsureSchematic registers the schematic with these official extensions and
// returns its id. The id follows from the content, so repeating is safe; it is
// computed here too, and a factory that answers another one is not believed.
func (f Factory) EnsureSchematic(ctx context.Context, extensions []string) (string, error) {
	const op = "register schematic"
	s, want, err := schematicOf(extensions)
	if err != nil {
		return "", err
	}
	c, err := f.client(op)
	if err != nil {
		return "", err
	}
	got, err := c.SchematicCreate(ctx, s)
	if err != nil {
		return "", factoryError(op, err)
	}
	if got != want {
		return "", fault.New(fault.Internal, op, "the factory calls the schematic %s, its content says %s", got, want)
	}
	return got, nil
}

// CheckExtensions reports extensions that do not exist for a Talos version, all
// at once. Error: Invalid naming spec.talos.extensions[i].
func (f Factory) CheckExtensions(ctx context.Context, version string, names []string) error {
	const op = "check extensions"
	if len(names) == 0 {
		return nil
	}
	c, err := f.client(op)
	if err != nil {
		return err
	}
	known, err := c.ExtensionsVersions(ctx, version)
	if err != nil {
		return factoryError(op, err)
	}
	var missing []string
	for i, name := range names {
		if !slices.ContainsFunc(known, func(e client.ExtensionInfo) bool { return e.Name == name }) {
			missing = append(missing, fmt.Sprintf("spec.talos.extensions[%d]: Talos %s has no official extension %q", i, version, name))
		}
	}
	if len(missing) > 0 {
		return fault.New(fault.Invalid, op, "%s", strings.Join(missing, "; "))
	}
	return nil
}

// Releases returns the released Talos versions that the factory builds, without
// pre-releases, sorted ascending.
func (f Factory) Releases(ctx context.Context) ([]string, error) {
	known, err := f.versions(ctx, "list Talos releases")
	if err != nil {
		return nil, err
	}
	var found []semver.Version
	for _, text := range known {
		// What is no version cannot be installed either.
		if v, err := parseVersion(text); err == nil && len(v.Pre) == 0 {
			found = append(found, v)
		}
	}
	semver.Sort(found)
	out := make([]string, len(found))
	for i, v := range found {
		out[i] = "v" + v.String()
	}
	return slices.Compact(out), nil
}

func (f Factory) versions(ctx context.Context, op string) ([]string, error) {
	c, err := f.client(op)
	if err != nil {
		return nil, err
	}
	known, err := c.Versions(ctx)
	if err != nil {
		return nil, factoryError(op, err)
	}
	return known, nil
}

// installerTimeout bounds a look at an installer: a factory builds one that nobody
// has asked for before it answers.
const installerTimeout = 5 * time.Minute

// CheckInstaller returns nil when the factory serves an installer image that
// InstallerImage named. A factory builds it for this if it has never done so,
// which takes a minute or two. Errors: Invalid when there is no such image,
// Unavailable and RateLimited when the factory does not serve.
func (f Factory) CheckInstaller(ctx context.Context, image string) error {
	const op = "check the installer"
	name, tag, err := f.reference(op, image)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, installerTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, f.base()+"/v2/"+name+"/manifests/"+tag, nil)
	if err != nil {
		return fault.New(fault.Invalid, op, "%q is no installer image", image)
	}
	h := f.patient()
	// The factory sends to the registry that holds what it has built; that it does
	// is the answer.
	h.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := h.Do(req)
	if err != nil {
		return factoryError(op, err)
	}
	if err := resp.Body.Close(); err != nil {
		return factoryError(op, err)
	}
	if resp.StatusCode < http.StatusBadRequest {
		return nil
	}
	out := factoryError(op, &client.HTTPError{Code: resp.StatusCode, Message: http.StatusText(resp.StatusCode)})
	return sharpen(out, func(e *fault.Error) {
		if e.Kind == fault.Invalid {
			e.Message = "the image factory has no installer " + image
		}
	})
}

func (f Factory) checkVersion(ctx context.Context, version string) error {
	const op = "check the Talos version"
	known, err := f.versions(ctx, op)
	if err != nil {
		return err
	}
	if !slices.Contains(known, version) {
		return fault.New(fault.Invalid, op, "spec.talos.version: the image factory %s does not build %s", f.base(), version)
	}
	return nil
}

// AssetURL returns where an uncompressed disk image is downloaded.
func (f Factory) AssetURL(schematic, version string, t Target) string {
	return fmt.Sprintf("%s/image/%s/%s/%s-%s.%s", f.base(), schematic, version, t.Platform, t.Arch, t.Format)
}

// InstallerImage returns the container image that upgrades a node. It names the
// platform, because since Talos 1.10 an installer writes the kernel command line
// of the platform that it was made for.
func (f Factory) InstallerImage(schematic, version, platform string) string {
	return fmt.Sprintf("%s/%s-installer/%s:%s", f.host(), platform, schematic, version)
}

// host is the factory as a registry.
func (f Factory) host() string {
	if u, err := url.Parse(f.base()); err == nil && u.Host != "" {
		return u.Host
	}
	return f.base()
}

// ImageName names an image by what it is, so that equal images get equal names
// whoever imports them, for example "376567988ad3-v1.13.5-openstack-amd64".
func ImageName(schematic, version, platform, arch string) string {
	return fmt.Sprintf("%s-%s-%s-%s", schematic[:min(12, len(schematic))], version, platform, arch)
}

func (f Factory) base() string { return strings.TrimRight(firstOf(f.URL, DefaultFactory), "/") }

func (f Factory) client(op string) (*client.Client, error) {
	h := f.HTTP
	if h == nil {
		h = &http.Client{Timeout: factoryTimeout}
	}
	c, err := client.New(f.base(), client.WithClient(*h))
	if err != nil {
		return nil, fault.New(fault.Invalid, op, "the image factory's URL is not one")
	}
	return c, nil
}

// factoryError maps errors of the Image Factory. All its requests may be
// repeated: what they create is addressed by content.
func factoryError(op string, err error) error {
	out := &fault.Error{Kind: fault.Unavailable, Op: op, Message: "image factory: " + clip(err.Error())}
	var status *client.HTTPError
	if client.IsInvalidSchematicError(err) {
		out.Kind, out.HTTPStatus = fault.Invalid, http.StatusBadRequest
		return out
	}
	if !errors.As(err, &status) {
		return out
	}
	out.HTTPStatus, out.Message = status.Code, "image factory: "+clip(status.Message)
	switch {
	case status.Code == http.StatusTooManyRequests:
		out.Kind = fault.RateLimited
	case status.Code == http.StatusUnauthorized || status.Code == http.StatusForbidden:
		out.Kind = fault.Unauthorized
	case status.Code >= http.StatusBadRequest && status.Code < http.StatusInternalServerError:
		out.Kind = fault.Invalid
	}
	return out
}

// clip keeps a message that may be a whole page to one short line.
func clip(s string) string {
	const most = 200
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}
