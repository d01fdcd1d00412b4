package talos

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	coreconfig "github.com/siderolabs/talos/pkg/machinery/config"
	"github.com/siderolabs/talos/pkg/machinery/config/configloader"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/plan"
	"github.com/ichor-project/ichor/internal/secrets"
)

// NodeSettings is what a machine config decides about its Node object.
type NodeSettings struct {
	Kubelet plan.Kubelet
	Labels  []cluster.Tag // sorted by key
	Taints  []cluster.Taint
}

// ReadNode reads out of a complete machine config, plain or compressed, what its
// node will report about itself: what the kubelet keeps from pods, labels and
// taints. What the config leaves open is as Talos and the kubelet have it. Error:
// Invalid, without content, when a setting cannot be read.
func ReadNode(userData secrets.Value) (NodeSettings, error) {
	const op = "read node settings"
	var out NodeSettings
	raw, err := plainConfig(userData.Reveal())
	if err != nil {
		return out, fault.New(fault.Internal, op, "the machine config cannot be decompressed")
	}
	cfg, err := configloader.NewFromBytes(raw)
	if err != nil {
		return out, fault.New(fault.Internal, op, "the machine config cannot be read")
	}
	role := cluster.RoleWorker
	if m := cfg.Machine(); m != nil && m.Type().IsControlPlane() {
		role = cluster.RoleControlPlane
	}
	out.Kubelet = plan.DefaultKubelet(role)
	labels := map[string]string{}
	if n := cfg.K8sNodeConfig(); n != nil {
		maps.Copy(labels, n.Labels())
		for _, key := range slices.Sorted(maps.Keys(n.Taints())) {
			value, effect, _ := strings.Cut(n.Taints()[key], ":")
			if effect == "" { // "key: Effect" has no value
				value, effect = "", value
			}
			out.Taints = append(out.Taints, cluster.Taint{Key: key, Value: value, Effect: effect})
		}
	}
	if err := out.kubelet(cfg, labels); err != nil {
		return out, fault.New(fault.Invalid, op, "%v", err)
	}
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		out.Labels = append(out.Labels, cluster.Tag{Key: key, Value: labels[key]})
	}
	return out, nil
}

func plainConfig(data []byte) ([]byte, error) {
	if !bytes.HasPrefix(data, []byte{0x1f, 0x8b}) {
		return data, nil
	}
	r, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(io.LimitReader(r, maxConfig))
	return raw, errors.Join(err, r.Close())
}

// maxConfig bounds what a compressed config may unfold to, in bytes.
const maxConfig = 16 << 20

// kubelet applies the kubelet's configuration and then its flags, which win.
func (n *NodeSettings) kubelet(cfg coreconfig.Provider, labels map[string]string) error {
	k := cfg.K8sKubeletConfig()
	if k == nil {
		return nil
	}
	extra := k.ExtraConfig()
	if v, ok := extra["maxPods"]; ok {
		if err := n.maxPods(fmt.Sprint(v)); err != nil {
			return err
		}
	}
	for _, m := range []struct {
		field string
		apply func(map[string]string) error
	}{
		{"systemReserved", func(m map[string]string) error { return reserve("systemReserved", &n.Kubelet.SystemReserved, m) }},
		{"kubeReserved", func(m map[string]string) error { return reserve("kubeReserved", &n.Kubelet.KubeReserved, m) }},
		{"evictionHard", n.evictionHard},
	} {
		v, ok := extra[m.field]
		if !ok {
			continue
		}
		if err := m.apply(texts(v)); err != nil {
			return err
		}
	}
	taints, _ := extra["registerWithTaints"].([]any)
	for _, t := range taints {
		m := texts(t)
		n.Taints = append(n.Taints, cluster.Taint{Key: m["key"], Value: m["value"], Effect: m["effect"]})
	}
	return n.flags(k.ExtraArgs(), labels)
}

// flags applies the kubelet's flags that say the same as its configuration.
func (n *NodeSettings) flags(args map[string][]string, labels map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(args)) {
		if len(args[name]) == 0 {
			continue
		}
		last := args[name][len(args[name])-1]
		var err error
		switch name {
		case "max-pods":
			err = n.maxPods(last)
		case "system-reserved":
			err = reserve("systemReserved", &n.Kubelet.SystemReserved, pairs(last, "="))
		case "kube-reserved":
			err = reserve("kubeReserved", &n.Kubelet.KubeReserved, pairs(last, "="))
		case "eviction-hard":
			err = n.evictionHard(pairs(last, "<"))
		case "node-labels":
			maps.Copy(labels, pairs(strings.Join(args[name], ","), "="))
		case "register-with-taints":
			for _, t := range strings.Split(last, ",") {
				if key, effect, ok := strings.Cut(t, ":"); ok {
					key, value, _ := strings.Cut(key, "=")
					n.Taints = append(n.Taints, cluster.Taint{Key: key, Value: value, Effect: effect})
				}
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (n *NodeSettings) maxPods(text string) error {
	v, err := strconv.ParseFloat(text, 64)
	if err != nil || v < 0 || v > 1e6 {
		return errors.New("the kubelet's maxPods is no number")
	}
	if v > 0 { // 0 is the default
		n.Kubelet.MaxPods = int64(v)
	}
	return nil
}

// reserve replaces reservations. A map of the user's replaces Talos' own as a
// whole.
func reserve(field string, into *plan.Amounts, m map[string]string) error {
	*into = plan.Amounts{}
	for _, a := range []struct {
		key  string
		into *int64
		read func(resource.Quantity) int64
	}{
		{"cpu", &into.MilliCPU, func(q resource.Quantity) int64 { return q.MilliValue() }},
		{"memory", &into.MemoryBytes, func(q resource.Quantity) int64 { return q.Value() }},
		{"ephemeral-storage", &into.StorageBytes, func(q resource.Quantity) int64 { return q.Value() }},
	} {
		text, ok := m[a.key]
		if !ok {
			continue
		}
		q, err := resource.ParseQuantity(text)
		if err != nil {
			return fmt.Errorf("the kubelet's %s.%s is no quantity", field, a.key)
		}
		*a.into = a.read(q)
	}
	return nil
}

// evictionHard replaces the thresholds: the kubelet takes a missing one as 0
// once one is given.
func (n *NodeSettings) evictionHard(m map[string]string) error {
	n.Kubelet.EvictionMemory, n.Kubelet.EvictionStorage = plan.Threshold{}, plan.Threshold{}
	for key, into := range map[string]*plan.Threshold{"memory.available": &n.Kubelet.EvictionMemory, "nodefs.available": &n.Kubelet.EvictionStorage} {
		text, ok := m[key]
		if !ok {
			continue
		}
		if percent, ok := strings.CutSuffix(text, "%"); ok {
			v, err := strconv.ParseFloat(percent, 64)
			if err != nil || v < 0 || v > 100 {
				return fmt.Errorf("the kubelet's evictionHard.%s is no percentage", key)
			}
			into.Fraction = v / 100
			continue
		}
		q, err := resource.ParseQuantity(text)
		if err != nil {
			return fmt.Errorf("the kubelet's evictionHard.%s is no quantity", key)
		}
		into.Bytes = q.Value()
	}
	return nil
}

// texts reads a mapping of scalars.
func texts(v any) map[string]string {
	out := map[string]string{}
	m, ok := v.(map[string]any)
	if !ok {
		return out
	}
	for key, value := range m {
		out[key] = fmt.Sprint(value)
	}
	return out
}

// pairs reads "a=1,b=2".
func pairs(text, between string) map[string]string {
	out := map[string]string{}
	for _, part := range strings.Split(text, ",") {
		if key, value, ok := strings.Cut(strings.TrimSpace(part), between); ok {
			out[key] = value
		}
	}
	return out
}
