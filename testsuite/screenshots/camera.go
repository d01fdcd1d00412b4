package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"github.com/ichor-project/ichor/testsuite/proc"
)

// camera takes pictures of pages with headless Chromium.
type camera struct {
	program  string
	dir, out string
}

// settleMillis is how much of its own time a page gets to load and draw.
const settleMillis = 12000

// frame is the size of the window and how much of its top is cut off, in pixels.
type frame struct{ width, height, top int }

func (c camera) shoot(ctx context.Context, name, url string, f frame) error {
	raw := filepath.Join(c.dir, name+".png")
	cmd := exec.CommandContext(ctx, c.program,
		"--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--disable-extensions", "--no-first-run", "--no-default-browser-check",
		"--disable-features=Translate,MediaRouter", "--user-data-dir="+filepath.Join(c.dir, "browser-"+name),
		"--window-size="+strconv.Itoa(f.width)+","+strconv.Itoa(f.height),
		"--virtual-time-budget="+strconv.Itoa(settleMillis), "--screenshot="+raw, url)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + c.dir, "TZ=UTC", "LANG=C.UTF-8"}
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := proc.Run(cmd); err != nil {
		return fmt.Errorf("picture of %s: %w\n%s", url, err, log.String())
	}
	size, err := shrink(raw, filepath.Join(c.out, name+".png"), f.top)
	if err != nil {
		return err
	}
	fmt.Printf("%s: %d KiB\n", filepath.Join(c.out, name+".png"), size>>10)
	if size > maxBytes {
		return fmt.Errorf("%s has %d bytes, more than %d", name, size, maxBytes)
	}
	return nil
}
