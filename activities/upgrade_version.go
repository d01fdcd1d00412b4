package activities

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/ichor-project/ichor/internal/plan"
)

func compareText(a, b string) int { return strings.Compare(a, b) }

func digestOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// minorOf cuts "v1.13.5" to "v1.13"; empty when it is no version.
func minorOf(version string) string {
	parts := strings.SplitN(version, ".", 3)
	if len(parts) < 3 {
		return ""
	}
	return parts[0] + "." + parts[1]
}

// tagOf returns the version of an image reference: its tag without a digest and
// without the flavour that Talos' kubelet images have ("-slim", "-fat").
func tagOf(image string) string {
	image, _, _ = strings.Cut(image, "@")
	if i := strings.LastIndex(image, ":"); i > strings.LastIndex(image, "/") {
		image = image[i+1:]
	}
	for _, flavour := range []string{"-slim", "-fat"} {
		image = strings.TrimSuffix(image, flavour)
	}
	return image
}

// sameImage reports whether a node that runs have has booted what is wanted;
// what is not wanted explicitly is not compared.
func sameImage(have plan.UpgradeNode, want plan.Versions) bool {
	return (want.Talos == "" || have.Talos == want.Talos) && (want.Schematic == "" || have.Schematic == want.Schematic)
}

// shortID cuts a schematic for a message.
func shortID(schematic string) string { return schematic[:min(12, len(schematic))] }
