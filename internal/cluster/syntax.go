package cluster

import (
	"net/netip"
	"regexp"
	"strings"
	"unicode"
)

// Lengths of names. A machine name is cluster-group-id, a single DNS label of
// at most 63 characters (RFC 1123), and room is left for longer ids.
const (
	MaxClusterName = 30
	MaxGroupName   = 20
)

var (
	dnsLabel     = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`)
	dnsSubdomain = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)
	labelName    = regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$`)
	secretKey    = regexp.MustCompile(`^[-._a-zA-Z0-9]+$`)
	hex64        = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// badLabel says why s is not a DNS label of at most limit characters.
func badLabel(s string, limit int) string {
	switch {
	case s == "":
		return "is required"
	case len(s) > limit:
		return "is too long: it has " + itoa(len(s)) + " characters, at most " + itoa(limit) + " are allowed"
	case !dnsLabel.MatchString(s):
		return "must be a DNS label: lower-case letters, digits and '-', beginning and ending with a letter or digit"
	}
	return ""
}

// badSubdomain says why s is no name of a Kubernetes object.
func badSubdomain(s string) string {
	switch {
	case s == "":
		return "is required"
	case len(s) > 253 || !dnsSubdomain.MatchString(s):
		return "must be a DNS subdomain: lower-case letters, digits, '-' and '.', at most 253 characters"
	}
	return ""
}

// badQualifiedName says why s is no key of a Kubernetes label or taint.
func badQualifiedName(s string) string {
	prefix, name, ok := strings.Cut(s, "/")
	if !ok {
		name = s
	} else if prefix == "" || len(prefix) > 253 || !dnsSubdomain.MatchString(prefix) {
		return "has a prefix that is not a DNS subdomain"
	}
	if len(name) == 0 || len(name) > 63 || !labelName.MatchString(name) {
		return "must have a name of 1 to 63 letters, digits, '-', '_' and '.', beginning and ending with a letter or digit"
	}
	return ""
}

// badLabelValue says why s is no value of a Kubernetes label or taint.
func badLabelValue(s string) string {
	if len(s) > 63 || (s != "" && !labelName.MatchString(s)) {
		return "has a value that is not a label value: at most 63 letters, digits, '-', '_' and '.', beginning and ending with a letter or digit"
	}
	return ""
}

// Labels that Kubernetes lets a kubelet set on its own node, by prefix of the
// key (the NodeRestriction admission plugin).
var kubeletPrefixes = []string{"kubelet.kubernetes.io/", "node.kubernetes.io/"}

// reservedLabel says who owns a label key that users cannot set.
func reservedLabel(key string) string {
	switch key {
	case "kubernetes.io/hostname", "kubernetes.io/os", "kubernetes.io/arch",
		"beta.kubernetes.io/os", "beta.kubernetes.io/arch":
		return "is set by the kubelet"
	case "node.kubernetes.io/instance-type", "beta.kubernetes.io/instance-type",
		"topology.kubernetes.io/region", "topology.kubernetes.io/zone",
		"failure-domain.beta.kubernetes.io/region", "failure-domain.beta.kubernetes.io/zone":
		return "is set by the cloud controller manager"
	}
	prefix, _, ok := strings.Cut(key, "/")
	if !ok {
		return ""
	}
	if prefix == "ichor.dev" || strings.HasSuffix(prefix, ".ichor.dev") {
		return "is reserved for Ichor"
	}
	for _, p := range kubeletPrefixes {
		if strings.HasPrefix(key, p) || strings.HasSuffix(prefix, "."+strings.TrimSuffix(p, "/")) {
			return ""
		}
	}
	if inDomain(prefix, "kubernetes.io") || inDomain(prefix, "k8s.io") {
		return "is a label that Kubernetes forbids nodes to set on themselves (NodeRestriction); use a prefix of your own or node.kubernetes.io/"
	}
	return ""
}

// reservedTaint says who owns a taint key that users cannot set.
func reservedTaint(key string) string {
	for _, p := range []string{"node.kubernetes.io/", "node.cloudprovider.kubernetes.io/"} {
		if strings.HasPrefix(key, p) {
			return "is set and removed by Kubernetes itself"
		}
	}
	if strings.HasPrefix(key, "ichor.dev/") {
		return "is reserved for Ichor"
	}
	return ""
}

func inDomain(host, domain string) bool {
	return host == domain || strings.HasSuffix(host, "."+domain)
}

// badHost says why s is neither an IP address nor a host name.
func badHost(s string) string {
	if _, err := netip.ParseAddr(s); err == nil {
		return ""
	}
	switch {
	case strings.Contains(s, "://") || strings.Contains(s, "/"):
		return "must be a host name or an IP address without scheme and path"
	case strings.Contains(s, ":"):
		return "must be a host name or an IP address without a port; the port is 6443"
	case len(s) > 253 || !dnsSubdomain.MatchString(strings.ToLower(s)):
		return "is neither a host name nor an IP address"
	}
	return ""
}

// badTag says why a tag key or value cannot be stored. No cloud documents less
// than 127 characters for either.
func badTag(s string, empty bool) string {
	switch {
	case s == "" && !empty:
		return "is empty"
	case len(s) > 127:
		return "is longer than 127 bytes"
	case strings.TrimSpace(s) != s || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }):
		return "has white space around it or characters that do not print"
	}
	return ""
}
