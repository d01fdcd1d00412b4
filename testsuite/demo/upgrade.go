package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/ichor-project/ichor/testsuite/devcloud/quorum"
	"github.com/ichor-project/ichor/testsuite/proc"
)

// What the upgrade goes to; examples/upgrade/demo.yaml says where it begins.
const (
	toTalos      = "v1.14.1"
	toKubernetes = "v1.36.3"
)

var toExtensions = []string{"siderolabs/qemu-guest-agent", "siderolabs/util-linux-tools"}

// The workload: pods of a core, three of which a worker has room for, so that six
// need two of three workers, and ten need a fourth. Nine would need it only while a
// worker is cordoned and still Ready: once it reboots, the autoscaler takes it for a
// node that starts, and waits. The budget lets one of six go at a time.
const (
	podCPU      = "1"
	podsBefore  = 6
	podsAfter   = 10
	podsAtLeast = 5
)

// patience bounds what follows provisioning.
const patience = 20 * time.Minute

// upgrade provisions a cluster on old versions with a workload under a disruption
// budget, upgrades it while the real Cluster Autoscaler adds a node, measures by
// the cluster's API throughout, and judges. It stops everything in the end.
func (d demo) upgrade(ctx context.Context) error {
	return d.session(ctx, func(sys *system) error {
		if err := d.refused(ctx, sys); err != nil {
			return err
		}
		config, api, err := d.api()
		if err != nil {
			return err
		}
		// With the autoscaler's own times for scaling down, minutes: what it adds shall
		// be seen to stay.
		pair, err := d.pair(ctx, sys)
		for _, p := range pair {
			defer func() { _ = p.Stop() }() // it is told to end; how it does says nothing
		}
		if err != nil {
			return err
		}
		limited, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		return d.roll(limited, sys, config, api, pair)
	})
}

// roll is the upgrade with everything around it.
func (d demo) roll(ctx context.Context, sys *system, config *rest.Config, api kubernetes.Interface, pair []*proc.Process) error {
	if err := d.guarded(ctx, api); err != nil {
		return err
	}
	w, err := newWatch(ctx, config)
	if err != nil {
		return err
	}
	defer w.close()
	if err := w.until(ctx, "the workload is available", func(s seen) bool { return s.ready == podsBefore }); err != nil {
		return err
	}
	fmt.Printf("\n%d pods run under a budget that demands %d; the Cluster Autoscaler runs. The plan:\n\n", podsBefore, podsAtLeast)
	change := []string{
		"upgrade", "demo", "--talos", toTalos, "--extensions", strings.Join(toExtensions, ","), "--kubernetes", toKubernetes,
		"--strategy", filepath.Join("examples", "upgrade", "demo-strategy.yaml"),
	}
	if err := d.ichor(ctx, sys, append(slices.Clone(change), "--plan")...); err != nil {
		return err
	}
	fmt.Printf("\nWatch it: %s/namespaces/default/workflows/cluster%%2Fdemo%%2Flifecycle\n\n", sys.UI)

	if err := quorum.Reset(ctx, sys.value("CLOUDSCALE_API_URL")); err != nil {
		return err
	}
	started := time.Now()
	w.begin()
	done := make(chan error, 1)
	go func() { done <- d.plain(ctx, sys, change...) }()
	added, err := d.midway(ctx, api, w, started, done)
	if err != nil {
		return err
	}
	took := time.Since(started)
	if err := d.settled(ctx, w); err != nil {
		return err
	}
	if err := w.end(ctx); err != nil {
		return err
	}
	return d.judge(ctx, sys, w, added, took, pair)
}

// midway scales the workload up when the first worker is at work and follows the
// upgrade to its end. It returns when the workload grew.
func (d demo) midway(ctx context.Context, api kubernetes.Interface, w *watch, started time.Time, done <-chan error) (grew time.Time, err error) {
	ended := func(err error) error {
		return errors.Join(errors.New("the upgrade ended too early"), err)
	}
	for grew.IsZero() {
		select {
		case err := <-done:
			return grew, ended(err)
		case <-time.After(interval):
		}
		name := w.atWork()
		if name == "" {
			continue
		}
		if err := d.resize(ctx, api, podsAfter); err != nil {
			return grew, err
		}
		grew = time.Now()
		say(started, "%s is cordoned; the deployment is scaled from %d to %d pods, which have no room on three workers", name, podsBefore, podsAfter)
	}
	told := map[string]bool{}
	for {
		for _, n := range w.newcomers() {
			if !told[n.Name] {
				told[n.Name] = true
				say(started, "%s is new, made for the autoscaler: born with %s, kubelet %s", n.Name, n.Status.NodeInfo.OSImage, n.Status.NodeInfo.KubeletVersion)
			}
		}
		select {
		case err := <-done:
			return grew, err
		case <-time.After(interval):
		}
	}
}

// settled waits until the workload runs in full.
func (d demo) settled(ctx context.Context, w *watch) error {
	return w.until(ctx, "all pods are available", func(s seen) bool { return s.ready == podsAfter })
}

// isWorker says whether a node is for the workload.
func isWorker(n corev1.Node) bool { return n.Labels[workloadLabel] == workload }
