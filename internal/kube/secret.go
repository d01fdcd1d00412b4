package kube

import (
	"bytes"
	"context"
	"encoding/json"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
)

// EnsureSecret sets one key of a Secret and leaves its other keys alone. Secret
// and namespace are created if they do not exist. Repeating changes nothing.
// Line ends after the value are dropped: files end in one, and a token with one
// makes an invalid HTTP header.
func (c *Client) EnsureSecret(ctx context.Context, namespace, name, key string, value secrets.Value) error {
	op := "ensure key " + key + " of " + describe("Secret", namespace, name)
	data := map[string][]byte{key: bytes.TrimRight(value.Reveal(), "\r\n")}
	body, err := json.Marshal(map[string]any{"data": data})
	if err != nil {
		return fault.New(fault.Internal, op, "the key cannot be encoded")
	}
	patch := func() error {
		_, err := c.core.Secrets(namespace).Patch(ctx, name, types.MergePatchType, body, metav1.PatchOptions{FieldManager: FieldManager})
		return apiError(op, err)
	}
	create := func() error {
		_, err := c.core.Secrets(namespace).Create(ctx, &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace, Labels: managed()},
			Data:       data,
		}, metav1.CreateOptions{FieldManager: FieldManager})
		return apiError(op, err)
	}
	if err := patch(); !fault.Is(err, fault.NotFound) {
		return err
	}
	err = create()
	if fault.Is(err, fault.NotFound) {
		if err := c.EnsureNamespace(ctx, namespace); err != nil {
			return err
		}
		err = create()
	}
	if fault.Is(err, fault.Conflict) {
		return patch() // somebody else created it in between
	}
	return err
}

// EnsureNamespace creates a namespace if it does not exist.
func (c *Client) EnsureNamespace(ctx context.Context, name string) error {
	_, err := c.core.Namespaces().Create(ctx, &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: managed()},
	}, metav1.CreateOptions{FieldManager: FieldManager})
	err = apiError("ensure Namespace "+name, err)
	if fault.Is(err, fault.Conflict) {
		return nil
	}
	return err
}

// managed are the labels of objects that Ichor itself creates.
func managed() map[string]string {
	return map[string]string{"app.kubernetes.io/managed-by": FieldManager}
}
