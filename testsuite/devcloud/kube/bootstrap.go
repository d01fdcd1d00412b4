package kube

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// bootstrappers is the group of whoever presents the bootstrap token.
const bootstrappers = "system:bootstrappers:nodes"

// bootstrap makes the objects without which no node joins a new cluster, as often
// as it takes. It is false when ctx ended first.
func (b *backend) bootstrap(ctx context.Context) bool {
	return b.persist(ctx, b.ensureBootstrapObjects)
}

// persist does something until it succeeds. It is false when ctx ended first.
func (b *backend) persist(ctx context.Context, do func(context.Context) error) bool {
	for {
		err := do(ctx)
		if err == nil {
			return true
		}
		if ctx.Err() == nil {
			b.c.log.Info("bootstrap manifests", "error", err)
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(probeEvery):
		}
	}
}

func (b *backend) ensureBootstrapObjects(ctx context.Context) error {
	id, secret, ok := strings.Cut(b.spec.BootstrapToken, ".")
	if !ok {
		return errors.New("the bootstrap token is not of the form id.secret")
	}
	_, err := b.clients.CoreV1().Secrets(metav1.NamespaceSystem).Create(ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "bootstrap-token-" + id},
		Type:       corev1.SecretTypeBootstrapToken,
		StringData: map[string]string{
			"token-id": id, "token-secret": secret,
			"usage-bootstrap-authentication": "true",
			"auth-extra-groups":              bootstrappers,
		},
	}, metav1.CreateOptions{})
	if err := orExists("bootstrap token", err); err != nil {
		return err
	}
	for _, binding := range []struct{ name, role, group string }{
		{"system-bootstrap-node-bootstrapper", "system:node-bootstrapper", bootstrappers},
		{"system-bootstrap-approve-node-client-csr", "system:certificates.k8s.io:certificatesigningrequests:nodeclient", bootstrappers},
		{"system-bootstrap-node-renewal", "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient", "system:nodes"},
	} {
		_, err := b.clients.RbacV1().ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: binding.name},
			Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: binding.group}},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: binding.role},
		}, metav1.CreateOptions{})
		if err := orExists(binding.name, err); err != nil {
			return err
		}
	}
	if !b.spec.DefaultCNI || len(b.spec.Manifests) > 0 {
		return nil
	}
	_, err = b.clients.AppsV1().DaemonSets(metav1.NamespaceSystem).Create(ctx, flannel(), metav1.CreateOptions{})
	return orExists("flannel", err)
}

func orExists(what string, err error) error {
	if err == nil || apierrors.IsAlreadyExists(err) {
		return nil
	}
	return fmt.Errorf("create %s: %w", what, err)
}

// flannel is the part of Talos' own network that shows: pods on every node, on
// the host's network, that put a CNI configuration on the host.
func flannel() *appsv1.DaemonSet {
	labels := map[string]string{"k8s-app": "flannel", "tier": "node"}
	return &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Name: "kube-flannel", Labels: labels},
		Spec: appsv1.DaemonSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{
					HostNetwork:       true,
					PriorityClassName: "system-node-critical",
					Tolerations: []corev1.Toleration{
						{Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule},
						{Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute},
					},
					Containers: []corev1.Container{{
						Name: "kube-flannel", Image: "ghcr.io/siderolabs/flannel",
						VolumeMounts: []corev1.VolumeMount{{Name: "cni", MountPath: "/etc/cni/net.d"}},
					}},
					Volumes: []corev1.Volume{{
						Name:         "cni",
						VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/etc/cni/net.d"}},
					}},
				},
			},
		},
	}
}
