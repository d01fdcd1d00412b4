package talosnode

import (
	stdx509 "crypto/x509"
	"time"

	"github.com/siderolabs/crypto/x509"

	"github.com/siderolabs/talos/pkg/machinery/constants"
)

// kubeletPair is where a kubelet keeps the certificate that it shows the API
// server, with its key.
const kubeletPair = constants.KubeletPKIDir + "/kubelet-client-current.pem"

// kubeletLife is for how long Kubernetes signs certificates of kubelets.
const kubeletLife = 365 * 24 * time.Hour

// kubeletPKI is the content of kubeletPair, empty while there is no kubelet. Only
// its dates can be relied on: it is made anew for whoever asks, and nobody signed
// it.
func (s *session) kubeletPKI() (string, error) {
	s.mu.Lock()
	runs := s.kube.kubelet != nil
	s.mu.Unlock()

	if !runs {
		return "", nil
	}

	until := s.booted.Add(kubeletLife)
	if left := s.node.Faults().KubeletCertificateLeft; left != 0 {
		until = time.Now().Add(left)
	}

	pair, err := x509.NewSelfSignedCertificateAuthority(x509.ECDSA(true),
		x509.Organization("system:nodes"), x509.CommonName("system:node:"+s.hostname()),
		x509.NotBefore(until.Add(-kubeletLife)), x509.NotAfter(until),
		x509.ExtKeyUsage([]stdx509.ExtKeyUsage{stdx509.ExtKeyUsageClientAuth}))
	if err != nil {
		return "", err
	}

	return string(pair.CrtPEM) + string(pair.KeyPEM), nil
}
