package kube

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// databaseFiles are kine's database and its write-ahead log. Together, frozen at
// one moment, they are what a power failure leaves, from which SQLite recovers
// everything that was committed.
var databaseFiles = []string{"state.db", "state.db-wal"}

// Snapshot implements guest.Kubernetes.
func (r *Runner) Snapshot(etcdCluster string) ([]byte, error) {
	c := r.cluster(etcdCluster)
	if c == nil {
		return nil, nil
	}
	data, err := c.snapshot()
	if err != nil {
		return nil, fmt.Errorf("kube: snapshot of %s: %w", etcdCluster, err)
	}
	return data, nil
}

// Restore implements guest.Kubernetes.
func (r *Runner) Restore(etcdCluster string, snapshot []byte) error {
	if r.cluster(etcdCluster) != nil {
		return fmt.Errorf("kube: restore into %s: it is in use", etcdCluster)
	}
	if err := unpack(newCluster(r, etcdCluster).dir, snapshot); err != nil {
		return fmt.Errorf("kube: restore into %s: %w", etcdCluster, err)
	}
	return nil
}

func (c *cluster) snapshot() ([]byte, error) {
	c.life.Lock()
	defer c.life.Unlock()
	if c.backend != nil {
		resume, err := c.backend.kine.freeze()
		if err != nil {
			return nil, err
		}
		defer resume()
	}
	return pack(c.dir)
}

func pack(dir string) ([]byte, error) {
	var out bytes.Buffer
	zipped := gzip.NewWriter(&out)
	archive := tar.NewWriter(zipped)
	for _, name := range databaseFiles {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err == nil {
			err = archive.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(data)), Mode: 0o600})
		}
		if err == nil {
			_, err = archive.Write(data)
		}
		if err != nil {
			return nil, err
		}
	}
	if err := errors.Join(archive.Close(), zipped.Close()); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func unpack(dir string, snapshot []byte) error {
	zipped, err := gzip.NewReader(bytes.NewReader(snapshot))
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	files := map[string][]byte{}
	archive := tar.NewReader(zipped)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return writeFiles(dir, files)
		}
		if err != nil {
			return err
		}
		if !slices.Contains(databaseFiles, header.Name) {
			return fmt.Errorf("unexpected file %q", header.Name)
		}
		if files[header.Name], err = io.ReadAll(archive); err != nil {
			return err
		}
	}
}

// freezeFor bounds the wait for a process to stop; it takes microseconds.
const freezeFor = 5 * time.Second

// freeze stops the process where it is until resume is called. A process that
// does not run needs no freezing.
func (s *supervisor) freeze() (resume func(), err error) {
	pid := s.pid()
	if pid == 0 {
		return func() {}, nil
	}
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		return nil, err
	}
	resume = func() {
		if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
			s.log.Error("cannot be resumed", "error", err)
		}
	}
	for deadline := time.Now().Add(freezeFor); ; time.Sleep(time.Millisecond) {
		stopped, err := isStopped(pid)
		switch {
		case stopped:
			return resume, nil
		case err != nil || time.Now().After(deadline):
			resume()
			return nil, errors.Join(errors.New(s.name+" does not stop"), err)
		}
	}
}

// isStopped reads the state behind the program's name in parentheses.
func isStopped(pid int) (bool, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false, err
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	return strings.HasPrefix(rest, "T"), nil
}
