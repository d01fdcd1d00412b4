package store

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"gocloud.dev/gcerrors"
	gosecrets "gocloud.dev/secrets"
	_ "gocloud.dev/secrets/awskms" // awskms:// keys
	"gocloud.dev/secrets/localsecrets"

	"github.com/ichor-project/ichor/internal/fault"
)

// wrapper seals the data key of each object with the store's key.
type wrapper struct {
	keeper *gosecrets.Keeper
	// id names the key without revealing it: a digest for local keys, the URL
	// without parameters for others.
	id string
	// local says that the key is in this process, so that a failure to open
	// means another key or damage, never an outage.
	local bool
}

const opKey = "open the store's key"

// openKey opens the key that a URL names: base64key:// for a key given as it
// is, file: for a key file, everything else (awskms://) by gocloud.dev/secrets.
func openKey(ctx context.Context, key string, mayCreate func() error) (*wrapper, error) {
	scheme, rest, _ := strings.Cut(key, ":")
	switch scheme {
	case "file":
		text, err := keyFile(strings.TrimPrefix(rest, "//"), mayCreate)
		if err != nil {
			return nil, err
		}
		return localKey(text)
	case localsecrets.Scheme:
		return localKey(strings.TrimPrefix(rest, "//"))
	}
	u, err := url.Parse(key)
	if err != nil || u.Scheme == "" {
		// The text is not repeated: it may be a key.
		return nil, fault.New(fault.Invalid, opKey, "is not a URL such as file:///path/to/key, base64key://… or awskms://alias/name?region=…")
	}
	keeper, err := gosecrets.OpenKeeper(ctx, key)
	if err != nil {
		return nil, fault.New(fault.Invalid, opKey, "no key service answers to %s:// URLs, or its parameters are wrong", u.Scheme)
	}
	return &wrapper{keeper: keeper, id: u.Scheme + "://" + u.Host + u.Path}, nil
}

func localKey(text string) (*wrapper, error) {
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	if err != nil {
		raw, err = base64.URLEncoding.DecodeString(strings.TrimSpace(text))
	}
	if err != nil || len(raw) != keyBytes {
		return nil, fault.New(fault.Invalid, opKey, "the key must be %d random bytes in base64 (its value is not repeated here)", keyBytes)
	}
	digest := sha256.Sum256(append([]byte("ichor store key id\x00"), raw...))
	return &wrapper{
		keeper: localsecrets.NewKeeper([keyBytes]byte(raw)),
		id:     "local:" + hex.EncodeToString(digest[:8]),
		local:  true,
	}, nil
}

// keyBytes is the size of local keys, that of NaCl secretbox, which localsecrets
// uses.
const keyBytes = 32

// keyFile returns the content of a key file and makes the file first when it is
// missing and mayCreate does not object.
func keyFile(name string, mayCreate func() error) (string, error) {
	text, err := readKeyFile(name)
	if !fault.Is(err, fault.NotFound) {
		return text, err
	}
	if err := mayCreate(); err != nil {
		// Another process may have made both the key and the first object
		// between the two looks.
		if text, retryErr := readKeyFile(name); retryErr == nil {
			return text, nil
		}
		return "", err
	}
	raw := make([]byte, keyBytes)
	if _, err := rand.Read(raw); err != nil {
		return "", fault.Wrap(fault.Internal, opKey, err)
	}
	folder := filepath.Dir(name)
	d, err := openDir(folder)
	if err != nil {
		return "", err
	}
	temp, err := d.writeTemp(folder, []byte(base64.StdEncoding.EncodeToString(raw)+"\n"))
	if err != nil {
		return "", fileFault(opKey, err)
	}
	defer func() { _ = os.Remove(temp) }() // A left-over is a key that nothing uses.
	// Linking, not writing in place: a second process that starts now reads a
	// whole key or none, and both end with the same one.
	if err := os.Link(temp, name); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fileFault(opKey, err)
	}
	if err := syncDir(folder); err != nil {
		return "", fileFault(opKey, err)
	}
	return readKeyFile(name)
}

func readKeyFile(name string) (string, error) {
	info, err := os.Stat(name)
	if err != nil {
		return "", fileFault(opKey, err)
	}
	if perm := info.Mode().Perm(); perm&0o077 != 0 {
		return "", fault.New(fault.Unsafe, opKey, "%s may be read by others (mode %04o); run: chmod 600 %s", name, perm, name)
	}
	body, err := os.ReadFile(name)
	if err != nil {
		return "", fileFault(opKey, err)
	}
	return string(body), nil
}

func (w *wrapper) wrap(ctx context.Context, dataKey []byte) ([]byte, error) {
	sealed, err := w.keeper.Encrypt(ctx, dataKey)
	return sealed, keyFault("seal a data key", err)
}

// unwrap opens a data key that the key called id has sealed.
func (w *wrapper) unwrap(ctx context.Context, id string, sealed []byte) ([]byte, error) {
	dataKey, err := w.keeper.Decrypt(ctx, sealed)
	switch {
	case err == nil:
		return dataKey, nil
	case id != w.id && (w.local || refused(err)):
		return nil, fault.New(fault.Unauthorized, "open a data key", "it was sealed with the key %s, but the store is open with %s", id, w.id)
	case w.local:
		return nil, fault.New(fault.Invalid, "open a data key", "it is damaged")
	default:
		return nil, keyFault("open a data key", err)
	}
}

// refused reports whether a key service has looked at the data key and did not
// accept it, which is not an outage.
func refused(err error) bool {
	code := gcerrors.Code(err)
	return code == gcerrors.InvalidArgument || code == gcerrors.FailedPrecondition || code == gcerrors.NotFound
}

// keyFault is cloudFault for a key service, where a key that is missing or
// disabled is a matter of credentials, not of an absent object.
func keyFault(op string, err error) error {
	switch gcerrors.Code(err) {
	case gcerrors.NotFound, gcerrors.FailedPrecondition:
		return fault.Wrap(fault.Unauthorized, op, err)
	default:
		return cloudFault(op, err)
	}
}
