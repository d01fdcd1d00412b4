package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// runPush copies an archive into a registry, with the credentials that docker
// login or podman login have left behind.
func runPush(ctx context.Context, args []string, out io.Writer) error {
	if len(args) != 2 {
		return errUsage
	}
	ref, err := name.NewTag(args[1], name.StrictValidation)
	if err != nil {
		return err
	}
	folder, err := os.MkdirTemp("", "ichor-image-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(folder) }() // What is left over is in the folder for such things.
	index, err := readArchive(args[0], folder)
	if err != nil {
		return err
	}
	if err := remote.WriteIndex(ref, index, remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain)); err != nil {
		return fmt.Errorf("push %s: %w", ref, err)
	}
	digest, err := index.Digest()
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s@%s\n", ref.Context(), digest)
	return nil
}
