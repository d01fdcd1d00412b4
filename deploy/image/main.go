// Command ichor-image makes container images from scratch, without a container
// engine: a static program, the authorities it trusts, a user that is not root,
// and nothing else. The same input gives the same digest.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

var errUsage = errors.New(`use it so:
  ichor-image build --name NAME --program OS/ARCH=FILE [--program ...] [flags] --out FILE
  ichor-image push ARCHIVE REGISTRY/NAME:TAG`)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "ichor-image:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	if len(args) > 0 {
		switch args[0] {
		case "build":
			return runBuild(args[1:], out)
		case "push":
			return runPush(ctx, args[1:], out)
		}
	}
	return errUsage
}

func runBuild(args []string, out io.Writer) error {
	i := image{Created: time.Unix(0, 0).UTC()}
	var file string
	fs := flag.NewFlagSet("ichor-image build", flag.ContinueOnError)
	fs.SetOutput(out)
	fs.StringVar(&i.Name, "name", "", "name of the program and of the image")
	fs.StringVar(&i.Description, "description", "", "what the label org.opencontainers.image.description says")
	fs.StringVar(&i.Version, "version", "dev", "version, also the tag in the archive")
	fs.StringVar(&i.Revision, "revision", "unknown", "commit that the programs were built from")
	fs.StringVar(&i.License, "license", "LICENSE", "license file")
	fs.StringVar(&file, "out", "", "archive to write")
	fs.Func("created", "time of everything in the image, in seconds since 1970; the commit's", func(text string) error {
		seconds, err := strconv.ParseInt(text, 10, 64)
		i.Created = time.Unix(seconds, 0).UTC()
		return err
	})
	fs.Func("program", "OS/ARCH=FILE, a static binary; repeat for other platforms", func(text string) error {
		platform, file, ok := strings.Cut(text, "=")
		if !ok {
			return errors.New("is not OS/ARCH=FILE")
		}
		p, err := v1.ParsePlatform(platform)
		if err != nil {
			return err
		}
		i.Programs = append(i.Programs, program{Platform: *p, File: file})
		return nil
	})
	if err := fs.Parse(args); err != nil {
		return err
	}
	if i.Name == "" || file == "" || len(i.Programs) == 0 || fs.NArg() > 0 {
		return fmt.Errorf("name, out and at least one program are needed, and nothing else; %w", errUsage)
	}
	index, err := i.build()
	if err != nil {
		return err
	}
	if err := writeArchive(file, i.Name, tag(i.Version), index, i.Created); err != nil {
		return err
	}
	digest, err := index.Digest()
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s %s:%s %s\n", file, i.Name, tag(i.Version), digest)
	return nil
}

// tag turns a version into what a registry takes for a tag.
func tag(version string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune("._-", r) || r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' {
			return r
		}
		return '-'
	}, version)
}
