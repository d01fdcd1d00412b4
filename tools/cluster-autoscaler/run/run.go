// Package run puts the Cluster Autoscaler's core into a program. The released
// program cannot be built from modules, since it needs packages of a nested
// module that is not published; its core can, and everything that decides about
// scaling is in it. What is left out are provisioning requests and the injection
// of pods, which are off by default.
package run

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/pflag"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/autoscaler/cluster-autoscaler/cloudprovider"
	"k8s.io/autoscaler/cluster-autoscaler/config"
	"k8s.io/autoscaler/cluster-autoscaler/config/flags"
	"k8s.io/autoscaler/cluster-autoscaler/loop"
	"k8s.io/autoscaler/cluster-autoscaler/metrics"
	kube "k8s.io/autoscaler/cluster-autoscaler/utils/kubernetes"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	cliflag "k8s.io/component-base/cli/flag"
	componentconfig "k8s.io/component-base/config"
	componentoptions "k8s.io/component-base/config/options"
	"k8s.io/component-base/metrics/legacyregistry"
	"k8s.io/klog/v2"
)

// Provider connects to the cloud provider that the options name.
type Provider func(config.AutoscalingOptions) (cloudprovider.CloudProvider, error)

// Main runs the autoscaler until a signal ends it. With --describe it prints
// what the provider answers, as the autoscaler understands it, and ends.
func Main(connect Provider) {
	klog.InitFlags(nil)
	election := componentconfig.LeaderElectionConfiguration{
		LeaderElect:   true,
		LeaseDuration: metav1.Duration{Duration: 15 * time.Second},
		RenewDeadline: metav1.Duration{Duration: 10 * time.Second},
		RetryPeriod:   metav1.Duration{Duration: 2 * time.Second},
		ResourceLock:  resourcelock.LeasesResourceLock,
		ResourceName:  "cluster-autoscaler",
	}
	componentoptions.BindLeaderElectionFlags(&election, pflag.CommandLine)
	once := pflag.Bool("describe", false, "print the node groups that the cloud provider serves as JSON and exit")
	cliflag.InitFlags()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	options := flags.AutoscalingOptions()
	provider, err := connect(options)
	switch {
	case err != nil:
	case *once:
		err = describe(os.Stdout, provider, options)
	case !election.LeaderElect:
		err = scale(ctx, provider, options)
	default:
		err = lead(ctx, election, options, func(ctx context.Context) error { return scale(ctx, provider, options) })
	}
	klog.Flush()
	if err != nil {
		fmt.Fprintln(os.Stderr, "cluster-autoscaler:", err)
		os.Exit(1)
	}
}

// scale runs one loop after another until ctx ends, and then cleans up.
func scale(ctx context.Context, provider cloudprovider.CloudProvider, options config.AutoscalingOptions) error {
	metrics.RegisterAll(options.EmitPerNodeGroupMetrics)
	client := kube.CreateKubeClient(options.KubeClientOpts)
	autoscaler, err := assemble(ctx, client, provider, options)
	if err != nil {
		return err
	}
	health := metrics.NewHealthCheck(options.MaxInactivityTime, options.MaxFailingTime)
	health.StartMonitoring()
	go serve(options.Address, health)
	if err := autoscaler.Start(); err != nil {
		return err
	}
	pods := loop.StartPodObserver(ctx, kube.CreateKubeClient(options.KubeClientOpts))
	trigger := loop.NewLoopTrigger(autoscaler, nil, pods, options.ScanInterval)
	for previous := time.Now(); ctx.Err() == nil; {
		if options.FrequentLoopsEnabled {
			trigger.Wait(previous)
		} else {
			wait(ctx, options.ScanInterval)
		}
		if ctx.Err() == nil {
			previous = time.Now()
			loop.RunAutoscalerOnce(autoscaler, health, previous)
		}
	}
	autoscaler.ExitCleanUp()
	return nil
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func serve(address string, health *metrics.HealthCheck) {
	mux := http.NewServeMux()
	mux.Handle("/metrics", legacyregistry.Handler())
	mux.Handle("/health-check", health)
	server := &http.Server{Addr: address, Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	klog.Fatalf("serve metrics: %v", server.ListenAndServe())
}

// lead calls do while this process holds the lease. Losing it ends the process,
// as it does in the released program.
func lead(ctx context.Context, election componentconfig.LeaderElectionConfiguration, options config.AutoscalingOptions, do func(context.Context) error) error {
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	client := kube.CreateKubeClient(options.KubeClientOpts)
	lock, err := resourcelock.New(election.ResourceLock, options.ConfigNamespace, election.ResourceName,
		client.CoreV1(), client.CoordinationV1(), resourcelock.ResourceLockConfig{
			Identity:      fmt.Sprintf("%s-%d", host, os.Getpid()),
			EventRecorder: kube.CreateEventRecorder(client, options.RecordDuplicatedEvents),
		})
	if err != nil {
		return err
	}
	lease, release := context.WithCancel(ctx)
	defer release()
	result := errors.New("the lease was lost")
	leaderelection.RunOrDie(lease, leaderelection.LeaderElectionConfig{
		Lock:            lock,
		LeaseDuration:   election.LeaseDuration.Duration,
		RenewDeadline:   election.RenewDeadline.Duration,
		RetryPeriod:     election.RetryPeriod.Duration,
		ReleaseOnCancel: true,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(ctx context.Context) {
				klog.Info("this process leads")
				if err := do(ctx); err != nil {
					klog.Fatalf("%v", err)
				}
			},
			OnStoppedLeading: func() {
				if ctx.Err() == nil {
					klog.Fatal("the lease was lost")
				}
				result = nil
			},
		},
	})
	return result
}
