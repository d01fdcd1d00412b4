// Package ccm stands in for the cloud controller manager of cloudscale.ch.
package ccm

import (
	"context"
	"log/slog"
	"time"

	"k8s.io/client-go/kubernetes"
)

// Options are the settings of the controller.
type Options struct {
	URL          string
	MonitorEvery time.Duration
	Log          *slog.Logger
}

// Run controls until ctx ends.
func Run(ctx context.Context, _ kubernetes.Interface, _ Options) { <-ctx.Done() }
