package kube

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/ichor-project/ichor/testsuite/devcloud/aws/account"
	"github.com/ichor-project/ichor/testsuite/proc"
)

// AWS is the account in which clusters there are.
type AWS struct {
	// Variables are those of the SDK: endpoints, region and credentials.
	Variables map[string]string
	// Home tells where instances of a cluster are; nil means that none is on AWS.
	Home func(cluster string) (account.Home, bool)
}

// awsCCM is how the vendor calls its cloud controller's workload and program.
const awsCCM = "aws-cloud-controller-manager"

// awsTokenLifetime is longer than any test or demonstration.
const awsTokenLifetime = 24 * time.Hour

// awsController runs the vendor's cloud controller as long as the cluster has its
// workload and a pod of it runs, until ctx ends. Unlike cloudscale.ch's it is not
// played: it is the released program, with the arguments of its manifest.
func (b *backend) awsController(ctx context.Context) {
	var running *supervisor
	stop := func() {
		if running != nil {
			running.stop()
			running = nil
		}
	}
	defer stop()
	said := ""
	tick := time.NewTicker(b.c.r.tempo.cloudNodes)
	defer tick.Stop()
	for {
		pod, home, err := b.awsWorkload(ctx)
		switch {
		case err != nil:
			if said != err.Error() {
				said = err.Error()
				b.c.log.Warn("cloud controller of AWS", "error", err)
			}
		case pod == nil:
			stop()
		case running == nil:
			running = supervise(awsCCM, b.c.log, func() (proc.Spec, error) { return b.awsCommand(ctx, pod, home) })
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// awsWorkload returns the pod of the cloud controller that has to run, and where the
// cluster is; nil if there is none. After an error nothing is known.
func (b *backend) awsWorkload(ctx context.Context) (*corev1.PodSpec, account.Home, error) {
	if b.c.r.opts.AWS.Home == nil {
		return nil, account.Home{}, nil
	}
	home, ok := b.c.r.opts.AWS.Home(b.spec.ClusterName)
	if !ok {
		return nil, home, nil
	}
	daemons, err := b.clients.AppsV1().DaemonSets(metav1.NamespaceSystem).Get(ctx, awsCCM, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, home, nil
	}
	if err != nil {
		return nil, home, err
	}
	pod := awsPod(daemons)
	if pod != nil && home.Profile == "" {
		return nil, home, errors.New("it has no credentials: no machine of the cluster has an instance profile")
	}
	return pod, home, b.awsProgram()
}

// awsPod is what runs: a controller goes on while its pod is not ready for a moment.
func awsPod(d *appsv1.DaemonSet) *corev1.PodSpec {
	if d.Status.NumberReady == 0 {
		return nil
	}
	return &d.Spec.Template.Spec
}

// awsProgram names the program if it is missing: few tests need it.
func (b *backend) awsProgram() error {
	if _, err := exec.LookPath(b.c.r.tool(awsCCM)); err != nil {
		return fmt.Errorf("%w; build it with: make bin/tools/%s", err, awsCCM)
	}
	return nil
}

// awsCommand gives the program what the manifest says, and what a node there would:
// an identity, and where it is.
func (b *backend) awsCommand(ctx context.Context, pod *corev1.PodSpec, home account.Home) (proc.Spec, error) {
	if len(pod.Containers) != 1 {
		return proc.Spec{}, errors.New("its pod has not one container")
	}
	token, err := b.token(ctx, pod.ServiceAccountName, awsTokenLifetime)
	if err != nil {
		return proc.Spec{}, err
	}
	kubeconfig := b.file(awsCCM + ".kubeconfig")
	if err := writeIdentity(kubeconfig, b.server(), b.keys.cluster.PEM(), &clientcmdapi.AuthInfo{Token: token}); err != nil {
		return proc.Spec{}, err
	}
	vars := b.c.r.opts.AWS.Variables
	// With a network named, the program asks no metadata service where it is.
	config := fmt.Sprintf("[Global]\nRegion=%s\nZone=%s\nVPC=%s\nSubnetID=%s\nKubernetesClusterID=%s\n",
		vars["AWS_REGION"], home.Zone, home.VPC, home.Subnet, b.spec.ClusterName)
	if err := writeFiles(b.c.dir, map[string][]byte{awsCCM + ".conf": []byte(config)}); err != nil {
		return proc.Spec{}, err
	}
	env := append(toolEnv(), "AWS_EC2_METADATA_DISABLED=true",
		// Services that nobody serves must not be asked on the Internet.
		"AWS_ENDPOINT_URL="+strings.TrimSuffix(b.c.r.opts.CloudURL, "/")+"/aws/none/")
	for k, v := range vars {
		env = append(env, k+"="+v)
	}
	args := append(append([]string{}, pod.Containers[0].Args...),
		"--kubeconfig="+kubeconfig, "--cloud-config="+b.file(awsCCM+".conf"),
		// One process stands for the pods of all nodes, and nobody asks for its health.
		"--leader-elect=false", "--secure-port=0",
		"--node-monitor-period="+b.c.r.tempo.cloudNodes.String(),
		// Services of type LoadBalancer and routes are not played.
		"--controllers=cloud-node-controller,cloud-node-lifecycle-controller",
	)
	return proc.Spec{
		Path: b.c.r.tool(awsCCM), Args: args, Env: env, Dir: b.c.dir, Log: b.c.logFile(awsCCM),
	}, nil
}
