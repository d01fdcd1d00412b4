package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
	"github.com/ichor-project/ichor/internal/talos"
)

// defaultTTL is a working day: credentials are minted anew in a second, so none
// needs to lie around for long.
const defaultTTL = 12 * time.Hour

func newKubeconfig(a *app) *cobra.Command {
	return accessCommand(a, "kubeconfig NAME", "Mint administrator credentials for the cluster's Kubernetes API",
		func(rec cluster.Record, access talos.Access) (secrets.Value, error) {
			if rec.Endpoint == "" {
				return secrets.Value{}, fault.New(fault.NotFound, "make the kubeconfig", "cluster %q has no endpoint yet (phase %s)", rec.Ref.Name, rec.Phase)
			}
			return talos.Kubeconfig(access, rec.Endpoint)
		})
}

func newTalosconfig(a *app) *cobra.Command {
	return accessCommand(a, "talosconfig NAME", "Mint administrator credentials for the machine API of the cluster's nodes",
		func(rec cluster.Record, access talos.Access) (secrets.Value, error) {
			var endpoints []string
			for _, n := range rec.ControlPlanes {
				endpoints = append(endpoints, n.Address)
			}
			if len(endpoints) == 0 {
				return secrets.Value{}, fault.New(fault.NotFound, "make the talosconfig", "cluster %q has no control plane yet (phase %s)", rec.Ref.Name, rec.Phase)
			}
			return talos.Talosconfig(access, endpoints, nil)
		})
}

func accessCommand(a *app, use, short string, mint func(cluster.Record, talos.Access) (secrets.Value, error)) *cobra.Command {
	c := &cobra.Command{
		Use:   use,
		Short: short,
		Long:  short + ".\n\nThe credentials are made from the stored authorities of the cluster; neither a node\nnor Temporal is asked. They are secret: anyone who has them is an administrator\nuntil they expire.",
		Args:  cobra.ExactArgs(1),
	}
	ttl := c.Flags().Duration("ttl", defaultTTL, "how long the credentials are valid")
	file := c.Flags().String("write", "", "write to this file, readable by its owner only, instead of standard output")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if *ttl <= 0 {
			return usageError{errors.New("--ttl must be positive")}
		}
		v, err := a.mint(cmd.Context(), args[0], *ttl, mint)
		if err != nil {
			return err
		}
		if *file == "" {
			_, err := a.out.Write(v.Reveal())
			return err
		}
		return writePrivate(*file, v)
	}
	return c
}

func (a *app) mint(ctx context.Context, name string, ttl time.Duration, mint func(cluster.Record, talos.Access) (secrets.Value, error)) (secrets.Value, error) {
	st, rec, err := a.openRecord(ctx, name)
	if err != nil {
		return secrets.Value{}, err
	}
	defer func() { _ = st.Close() }() // nothing is buffered
	if rec.Frozen.Bundle == "" || rec.Phase == cluster.PhaseDeleted {
		return secrets.Value{}, fault.New(fault.NotFound, "mint credentials", "cluster %q has no authorities (phase %s)", name, rec.Phase)
	}
	bundle, err := st.GetObject(ctx, rec.Frozen.Bundle)
	if err != nil {
		return secrets.Value{}, err
	}
	return mint(rec, talos.Access{Bundle: bundle, Cluster: name, TTL: ttl, Now: time.Now()})
}

// writePrivate replaces a file as a whole, so that it never has other modes or
// half of its content.
func writePrivate(name string, v secrets.Value) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".ichor-*") // mode 0600
	if err != nil {
		return usageError{err}
	}
	_, err = f.Write(v.Reveal())
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", name, err), os.Remove(f.Name()))
	}
	return nil
}

func sha(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
