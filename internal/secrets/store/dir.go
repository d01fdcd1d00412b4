package store

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ichor-project/ichor/internal/fault"
)

// tempPrefix starts the names of files that are being written. Keys never
// contain a segment that starts with a dot, so these are never objects.
const tempPrefix = ".writing-"

// staleAfter is the age at which such a file is taken for the left-over of a
// process that died; writing one takes milliseconds.
const staleAfter = time.Hour

// dir is the backend for local directories. It exists beside
// gocloud.dev/blob/fileblob because create must be decided by the file system:
// fileblob's WriterOptions.IfNotExist is a stat followed by a rename, so that
// two workers, or two goroutines, both believe that they made the object.
// Files are laid out as fileblob lays them out without metadata.
type dir struct{ root string }

// openDir makes root, readable by its owner only, when it is missing.
func openDir(root string) (*dir, error) {
	if err := os.MkdirAll(root, 0o700); err != nil {
		return nil, fileFault("make the store's directory", err)
	}
	return &dir{root: root}, nil
}

func (d *dir) file(key string) string { return filepath.Join(d.root, filepath.FromSlash(key)) }

func (d *dir) get(ctx context.Context, key string) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, fault.Wrap(fault.Unavailable, "read "+key, err)
	}
	f, err := os.Open(d.file(key))
	if err != nil {
		return nil, fileFault("read "+key, err)
	}
	defer func() { _ = f.Close() }() // Opened for reading: closing loses nothing.
	body, err := io.ReadAll(io.LimitReader(f, maxSealed+1))
	if err != nil {
		return nil, fileFault("read "+key, err)
	}
	return body, nil
}

func (d *dir) put(ctx context.Context, key string, body []byte) error {
	return d.write(ctx, key, body, os.Rename)
}

// create links the finished file to its name: of all link calls for one name
// exactly one succeeds, whichever process makes it, and the object is complete
// from the first moment.
func (d *dir) create(ctx context.Context, key string, body []byte) error {
	return d.write(ctx, key, body, os.Link)
}

func (d *dir) write(ctx context.Context, key string, body []byte, publish func(from, to string) error) error {
	op := "write " + key
	if err := ctx.Err(); err != nil {
		return fault.Wrap(fault.Unavailable, op, err)
	}
	name := d.file(key)
	temp, err := d.writeTemp(filepath.Dir(name), body)
	if err != nil {
		return fileFault(op, err)
	}
	// After a rename there is nothing left to remove; after a link there is.
	defer func() { _ = os.Remove(temp) }()
	if err := publish(temp, name); err != nil {
		return fileFault(op, err)
	}
	d.sweep(filepath.Dir(name))
	return fileFault(op, syncDir(filepath.Dir(name)))
}

// sweep removes what dead processes have left in a folder. It is tidying only:
// whatever it cannot do now, a later write does.
func (d *dir) sweep(folder string) {
	files, err := os.ReadDir(folder)
	if err != nil {
		return
	}
	for _, f := range files {
		if !strings.HasPrefix(f.Name(), tempPrefix) {
			continue
		}
		if info, err := f.Info(); err == nil && time.Since(info.ModTime()) > staleAfter {
			_ = os.Remove(filepath.Join(folder, f.Name())) // See above.
		}
	}
}

// writeTemp writes body to stable storage under a temporary name in folder.
func (d *dir) writeTemp(folder string, body []byte) (string, error) {
	var f *os.File
	// A concurrent removal of the last object may take the folder away between
	// the two calls; that cannot go on for ever.
	for attempt := 0; ; attempt++ {
		if err := d.makeFolder(folder); err != nil {
			return "", err
		}
		var err error
		f, err = os.CreateTemp(folder, tempPrefix+"*") // mode 0600
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) || attempt == 100 {
			return "", err
		}
	}
	_, err := f.Write(body)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), nil
}

// makeFolder is MkdirAll that also puts the new names on stable storage: a
// power cut must not take away the folder of an object that was acknowledged.
func (d *dir) makeFolder(folder string) error {
	if _, err := os.Stat(folder); err == nil {
		return nil
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	for folder != d.root && strings.HasPrefix(folder, d.root) {
		folder = filepath.Dir(folder)
		if err := syncDir(folder); err != nil {
			return err
		}
	}
	return nil
}

func syncDir(name string) error {
	f, err := os.Open(name)
	if err != nil {
		// Somebody removed the object and its folder again at once.
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func (d *dir) list(ctx context.Context, prefix string) ([]entry, error) {
	var out []entry
	err := filepath.WalkDir(d.file(prefix), func(name string, de fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			err = nil // removed while we look, or nothing there at all
			de = nil
		}
		if err := errors.Join(err, ctx.Err()); err != nil || de == nil {
			return err
		}
		if de.IsDir() || strings.HasPrefix(de.Name(), ".") {
			return nil
		}
		info, err := de.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		} else if err != nil {
			return err
		}
		rel, err := filepath.Rel(d.root, name)
		if err != nil {
			return err
		}
		out = append(out, entry{key: filepath.ToSlash(rel), modified: info.ModTime()})
		return nil
	})
	if err != nil {
		return nil, fileFault("list "+prefix, err)
	}
	slices.SortFunc(out, func(a, b entry) int { return strings.Compare(a.key, b.key) })
	return out, nil
}

func (d *dir) remove(ctx context.Context, key string) error {
	if err := ctx.Err(); err != nil {
		return fault.Wrap(fault.Unavailable, "delete "+key, err)
	}
	if err := os.Remove(d.file(key)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fileFault("delete "+key, err)
	}
	d.removeFolders(path.Dir(key))
	return nil
}

// removeFolders lets folders go with their last object. One that is not empty
// refuses, which is the wanted end of the loop.
func (d *dir) removeFolders(folder string) {
	for ; folder != "."; folder = path.Dir(folder) {
		if os.Remove(d.file(folder)) != nil {
			return
		}
	}
}

func (d *dir) close() error { return nil }

// fileFault gives an error of the file system a kind. File names are the keys
// of objects, which are no secret.
func fileFault(op string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return fault.Wrap(fault.NotFound, op, err)
	case errors.Is(err, fs.ErrExist):
		return fault.Wrap(fault.Conflict, op, err)
	case errors.Is(err, fs.ErrPermission):
		return fault.Wrap(fault.Unauthorized, op, err)
	default:
		return fault.Wrap(fault.Unavailable, op, err)
	}
}
