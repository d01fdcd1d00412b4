package stack

import (
	"cmp"
	"errors"
	"os"
	"path/filepath"
	"slices"
)

// Root returns the folder of the repository: the nearest one above the working
// directory that has a go.mod. Builds trim paths, so the program itself does not
// know where its source was.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", errors.New("there is no go.mod in any folder above the working directory")
		}
		dir = up
	}
}

// Program is the file of one of the programs.
func (s *Stack) Program(name string) string { return filepath.Join(s.opts.Bin, name) }

// programs are what a stack and its judges start.
var programs = []string{
	"ichor", "ichor-worker", "devcloud", "tools/temporal", "tools/kine", "tools/kube-apiserver",
	"tools/kube-controller-manager", "tools/kube-scheduler", "tools/kwok", "tools/talosctl", "tools/tctl",
}

// Missing lists the programs that have not been built, those of further clouds
// included, with the command that builds them; nil if there are all.
func Missing(bin string, clouds ...Cloud) error {
	var extra []string
	for _, c := range clouds {
		extra = append(extra, c.Programs...)
	}
	return missing(bin, extra)
}

func missing(bin string, extra []string) error {
	var errs []error
	for _, p := range slices.Concat(programs, extra) {
		if _, err := os.Stat(filepath.Join(bin, p)); err != nil {
			errs = append(errs, err)
		}
	}
	if errs != nil {
		errs = append(errs, errors.New("build them with: make build tools, and make bin/tools/NAME for what a cloud needs"))
	}
	return errors.Join(errs...)
}

// Programs returns the folder of the repository and that of its programs, which is
// bin unless ICHOR_BIN names another one. It is an error, as of Missing, when one of
// a stack's programs or of the extra ones is not there.
func Programs(extra ...string) (root, bin string, err error) {
	if root, err = Root(); err != nil {
		return "", "", err
	}
	bin = cmp.Or(os.Getenv("ICHOR_BIN"), filepath.Join(root, "bin"))
	return root, bin, missing(bin, extra)
}

// Suite is what a suite begins with: the cloud of Chosen, and Programs with those of
// that cloud.
func Suite(extra ...string) (chosen Cloud, root, bin string, err error) {
	if chosen, err = Chosen(); err == nil {
		root, bin, err = Programs(slices.Concat(chosen.Programs, extra)...)
	}
	return chosen, root, bin, err
}
