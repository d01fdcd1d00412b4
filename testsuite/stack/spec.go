package stack

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/ichor-project/ichor/internal/cluster"
)

// Spec returns the spec of examples/demo.yaml under another name, with its files
// named absolutely, so that it can be changed and written elsewhere.
func Spec(root, name string) (cluster.Cluster, error) {
	return Example(root, "demo.yaml", name)
}

// Example is Spec for any of the examples, named by its path in their folder.
func Example(root, example, name string) (cluster.Cluster, error) {
	file := filepath.Join(root, "examples", example)
	body, err := os.ReadFile(file)
	if err != nil {
		return cluster.Cluster{}, err
	}
	c, _, err := cluster.Decode(body)
	if err != nil {
		return c, fmt.Errorf("examples/%s: %w", example, err)
	}
	c.Metadata.Name = name
	for _, s := range c.Sources() {
		if s.Source.File != "" && !filepath.IsAbs(s.Source.File) {
			s.Source.File = filepath.Join(filepath.Dir(file), s.Source.File)
		}
	}
	return c, nil
}

// Small makes a spec the smallest that still has everything: one control plane
// and one group with one worker.
func Small(c cluster.Cluster) cluster.Cluster {
	one := 1
	c.Spec.ControlPlane.Replicas = 1
	c.Spec.NodeGroups = c.Spec.NodeGroups[:1:1]
	c.Spec.NodeGroups[0].Count = &one
	return c
}

// WriteSpec writes a spec for the command line and returns the file's name.
func (s *Stack) WriteSpec(c cluster.Cluster) (string, error) {
	body, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return "", err
	}
	f, err := os.CreateTemp(s.opts.Dir, c.Metadata.Name+"-*.json")
	if err != nil {
		return "", err
	}
	_, err = f.Write(body)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return f.Name(), err
}
