package kubelet

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ichor-project/ichor/testsuite/devcloud/kube/client"
	"github.com/ichor-project/ichor/testsuite/devcloud/kube/pki"
)

const (
	// signTimeout bounds the wait for one certificate; then a new request is
	// made, as by a kubelet.
	signTimeout = time.Minute
	signPoll    = 200 * time.Millisecond
)

// bootstrap gets a client certificate in exchange for the bootstrap token.
func (k *Kubelet) bootstrap() (cert, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	if key, err = pki.EncodeKey(private); err != nil {
		return nil, nil, err
	}
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "system:node:" + k.spec.NodeName, Organization: []string{"system:nodes"}},
	}, private)
	if err != nil {
		return nil, nil, err
	}
	api, err := k.client(client.Options{Token: k.spec.BootstrapToken})
	if err != nil {
		return nil, nil, err
	}
	defer api.Close()
	ctx, cancel := context.WithTimeout(k.ctx, signTimeout)
	defer cancel()
	created, err := api.CertificatesV1().CertificateSigningRequests().Create(ctx, &certificatesv1.CertificateSigningRequest{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "csr-"},
		Spec: certificatesv1.CertificateSigningRequestSpec{
			Request:    pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: request}),
			SignerName: certificatesv1.KubeAPIServerClientKubeletSignerName,
			Usages:     []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageClientAuth},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return nil, nil, err
	}
	cert, err = k.awaitSigned(ctx, api, created.Name)
	return cert, key, err
}

func (k *Kubelet) awaitSigned(ctx context.Context, api *client.Client, name string) ([]byte, error) {
	for {
		request, err := api.CertificatesV1().CertificateSigningRequests().Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return nil, err
		}
		if len(request.Status.Certificate) > 0 {
			return request.Status.Certificate, nil
		}
		for _, condition := range request.Status.Conditions {
			if condition.Type != certificatesv1.CertificateApproved {
				return nil, fmt.Errorf("request %s: %s: %s", name, condition.Type, condition.Message)
			}
		}
		select {
		case <-ctx.Done():
			return nil, errors.New("request " + name + " was not signed in time")
		case <-time.After(signPoll):
		}
	}
}
