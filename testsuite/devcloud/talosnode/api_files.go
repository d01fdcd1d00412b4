package talosnode

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	stdx509 "crypto/x509"
	"encoding/base64"
	"fmt"
	"strings"
	"time"

	"github.com/siderolabs/crypto/x509"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
	"sigs.k8s.io/yaml"

	"github.com/siderolabs/talos/pkg/machinery/api/common"
	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	clientconfig "github.com/siderolabs/talos/pkg/machinery/client/config"
	"github.com/siderolabs/talos/pkg/machinery/role"
)

// Read implements the machine service for the few files that anybody asks for.
func (a *machineAPI) Read(in *machine.ReadRequest, out grpc.ServerStreamingServer[common.Data]) error {
	s := a.s

	files := map[string]string{
		"/proc/sys/kernel/random/boot_id": s.bootID + "\n",
		"/proc/version":                   "Linux version 6.18 (devcloud)\n",
		"/proc/uptime":                    fmt.Sprintf("%.2f 0.00\n", time.Since(s.booted).Seconds()),
		"/proc/cmdline":                   "talos.platform=openstack\n",
		"/etc/os-release":                 "NAME=\"Talos\"\nID=talos\nVERSION_ID=" + s.slot.version + "\n",
		"/etc/hostname":                   s.hostname() + "\n",
	}

	if in.GetPath() == kubeletPair {
		pair, err := s.kubeletPKI()
		if err != nil {
			return status.Error(codes.Internal, err.Error())
		}

		if pair != "" {
			files[kubeletPair] = pair
		}
	}

	content, ok := files[in.GetPath()]
	if !ok {
		return status.Errorf(codes.NotFound, "stat %s: no such file or directory", in.GetPath())
	}

	return out.Send(&common.Data{Bytes: []byte(content)})
}

// Dmesg implements the machine service: the console.
func (a *machineAPI) Dmesg(_ *machine.DmesgRequest, out grpc.ServerStreamingServer[common.Data]) error {
	for _, line := range a.s.node.Log() {
		if err := out.Send(&common.Data{Bytes: []byte(line + "\n")}); err != nil {
			return err
		}
	}

	return nil
}

// Logs implements the machine service: the console's lines about a service.
func (a *machineAPI) Logs(in *machine.LogsRequest, out grpc.ServerStreamingServer[common.Data]) error {
	known := in.GetId() == "machined" || in.GetId() == "kernel"
	for _, st := range a.s.serviceStatuses() {
		known = known || st.id == in.GetId()
	}

	if !known {
		return status.Errorf(codes.NotFound, "log %q was not registered", in.GetId())
	}

	for _, line := range a.s.node.Log() {
		if !strings.Contains(line, in.GetId()) && in.GetId() != "machined" {
			continue
		}

		if err := out.Send(&common.Data{Bytes: []byte(line + "\n")}); err != nil {
			return err
		}
	}

	return nil
}

// Kubeconfig implements the machine service: an administrator's kubeconfig in
// a tar archive, signed with the cluster CA.
func (a *machineAPI) Kubeconfig(_ *emptypb.Empty, out grpc.ServerStreamingServer[common.Data]) error {
	config, err := a.s.controlPlane("kubeconfig")
	if err != nil {
		return err
	}

	k := config.kubernetes
	if k == nil || len(k.caKey) == 0 {
		return status.Error(codes.FailedPrecondition, "kubernetes CA is not available")
	}

	_, pem, err := issue(&x509.PEMEncodedCertificateAndKey{Crt: k.caCert, Key: k.caKey},
		x509.CommonName("admin"), x509.Organization("system:masters"),
		x509.ExtKeyUsage([]stdx509.ExtKeyUsage{stdx509.ExtKeyUsageClientAuth}))
	if err != nil {
		return status.Error(codes.Internal, err.Error())
	}

	archive, err := archiveOne("kubeconfig", kubeconfig(config, pem))
	if err != nil {
		return status.Error(codes.Internal, err.Error())
	}

	return out.Send(&common.Data{Bytes: archive})
}

func kubeconfig(config *nodeConfig, pem *x509.PEMEncodedCertificateAndKey) []byte {
	name := config.clusterName
	user := "admin@" + name

	b, err := yaml.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "Config", "current-context": user,
		"clusters": []any{map[string]any{"name": name, "cluster": map[string]any{
			"server": config.endpoint, "certificate-authority-data": base64.StdEncoding.EncodeToString(config.kubernetes.caCert),
		}}},
		"users": []any{map[string]any{"name": user, "user": map[string]any{
			"client-certificate-data": base64.StdEncoding.EncodeToString(pem.Crt),
			"client-key-data":         base64.StdEncoding.EncodeToString(pem.Key),
		}}},
		"contexts": []any{map[string]any{"name": user, "context": map[string]any{"cluster": name, "user": user, "namespace": "default"}}},
	})
	if err != nil {
		// Maps of strings always marshal.
		return nil
	}

	return b
}

func archiveOne(name string, content []byte) ([]byte, error) {
	var buf bytes.Buffer

	zw := gzip.NewWriter(&buf)
	tw := tar.NewWriter(zw)

	if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(content)), ModTime: time.Now(), Mode: 0o600}); err != nil {
		return nil, err
	}

	if _, err := tw.Write(content); err != nil {
		return nil, err
	}

	if err := tw.Close(); err != nil {
		return nil, err
	}

	if err := zw.Close(); err != nil {
		return nil, err
	}

	return buf.Bytes(), nil
}

// GenerateClientConfiguration implements the machine service.
func (a *machineAPI) GenerateClientConfiguration(_ context.Context, in *machine.GenerateClientConfigurationRequest) (*machine.GenerateClientConfigurationResponse, error) {
	config, err := a.s.running()
	if err != nil {
		return nil, err
	}

	if !config.controlPlane {
		return nil, status.Error(codes.FailedPrecondition, "client configuration (talosconfig) can't be generated on worker nodes")
	}

	roles, unknown := role.Parse(in.GetRoles())
	if len(unknown) > 0 || roles.Empty() {
		return nil, status.Errorf(codes.InvalidArgument, "invalid roles %v", in.GetRoles())
	}

	ttl := in.GetCrtTtl().AsDuration()
	if ttl <= 0 {
		return nil, status.Error(codes.InvalidArgument, "crt_ttl must be positive")
	}

	_, pem, err := issue(config.machineCA, append(clientOptions(roles), x509.NotAfter(time.Now().Add(ttl)))...)
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}

	talosconfig, err := clientconfig.NewConfig(config.clusterName, nil, config.machineCA.Crt, pem).Bytes()
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}

	return &machine.GenerateClientConfigurationResponse{Messages: []*machine.GenerateClientConfiguration{{
		Ca: config.machineCA.Crt, Crt: pem.Crt, Key: pem.Key, Talosconfig: talosconfig,
	}}}, nil
}
