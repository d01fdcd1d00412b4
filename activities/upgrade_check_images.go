package activities

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/plan"
)

// sizeTimeout bounds reading how large an installer is; the factory has built it
// by then. A registry that only nodes reach does not hold up the pre-flight.
const sizeTimeout = 15 * time.Second

// What images take on a node. Layers are downloaded, unpacked, and deleted when all
// are unpacked, so that a pull needs room for both.
const (
	// unpacked is how many times as large as its download an installer is once it
	// is unpacked, at most: nearly all of it is a kernel and an initramfs, which are
	// compressed in themselves.
	unpacked = 2
	// unknownInstaller is taken for the download of an installer whose size cannot
	// be read. It is an estimate: an installer without extensions has between 100
	// and 200 MiB, and large extensions, as drivers of GPUs, have as much again.
	unknownInstaller = 300 << 20
	// componentImage is what one image of Kubernetes takes, downloaded and unpacked.
	// It is an estimate and not read from a registry: the API server, the largest
	// that Kubernetes publishes, has about 30 MiB to download and 100 unpacked, and
	// the kubelet's image of Talos' makers is larger, for the tools in it.
	componentImage = 256 << 20
)

// Images of Kubernetes that a node pulls in a leg: the kubelet and kube-proxy, on
// control planes the static pods as well.
const (
	workerImages       = 2
	controlPlaneImages = 5
)

// diskReserve is the part of a disk below which a kubelet with its defaults begins
// to evict pods (evictionHard, nodefs.available below 10 percent).
const diskReserve = 10

// installer is one that the upgrade pulls.
type installer struct {
	image  string
	groups []string // whose nodes pull it
	bytes  int64    // to download
	// why is empty when bytes is what the registry says, else why it is an estimate.
	why string
}

// images asks the factory for the installers of each leg, those of groups that run
// something of their own included, and for their sizes.
func (c *preflight) images(ctx context.Context) {
	all := c.pulled()
	for i := range all {
		one := &all[i]
		err := c.u.Factory.CheckInstaller(ctx, one.image)
		if err == nil {
			one.bytes, one.why = c.sized(ctx, one.image)
			continue
		}
		one.bytes, one.why = unknownInstaller, "there is none"
		whose := ""
		if !slices.Contains(one.groups, cluster.ControlPlaneGroup) {
			whose = " of " + strings.Join(one.groups, " and ")
		}
		c.problem("images", "%s%s: %v; see that schematic and version are right, and that the factory is reached", one.image, whose, err)
	}
	c.installers = all
}

// pulled names the installers that nodes pull on the way, each once.
func (c *preflight) pulled() []installer {
	var out []installer
	add := func(image, group string) {
		i := slices.IndexFunc(out, func(o installer) bool { return o.image == image })
		switch {
		case image == "":
		case i < 0:
			out = append(out, installer{image: image, groups: []string{group}})
		case !slices.Contains(out[i].groups, group):
			out[i].groups = append(out[i].groups, group)
		}
	}
	for _, leg := range c.in.Legs {
		for _, k := range kinds(c.in.Nodes) {
			if leg.Kind == plan.LegTalos {
				add(c.installerOf(leg.To, k.Group), k.Group)
			}
		}
	}
	// A group's own system may change with a leg that changes Kubernetes only.
	for _, k := range kinds(c.in.Nodes) {
		if last := c.in.Last.Frozen.For(k.Group); len(out) > 0 && last.Schematic != c.rec.Frozen.For(k.Group).Schematic {
			add(last.InstallerImage, k.Group)
		}
	}
	return out
}

// installerOf names what a group is installed from at some versions on the way, by
// what it is at the end: all are of one factory and platform. Until then, a group
// with a schematic of its own keeps that.
func (c *preflight) installerOf(to plan.Versions, group string) string {
	last := c.in.Last.Frozen.For(group)
	name, found := strings.CutSuffix(last.InstallerImage, last.Schematic+":"+last.TalosVersion)
	if !found || to.Talos == "" || to.Schematic == "" || to == versionsOf(c.in.Last.Frozen) {
		return last.InstallerImage
	}
	for _, g := range c.rec.Spec.NodeGroups {
		if g.Name == group && g.Image == "" && (g.Schematic != "" || len(g.Extensions) > 0) {
			to.Schematic = c.rec.Frozen.For(group).Schematic
		}
	}
	return name + to.Schematic + ":" + to.Talos
}

// sized asks how large an installer is; why is as of installer.
func (c *preflight) sized(ctx context.Context, image string) (n int64, why string) {
	bounded, cancel := within(ctx, sizeTimeout)
	defer cancel()
	n, err := c.u.Inspect.InstallerBytes(bounded, image)
	if err != nil {
		return unknownInstaller, err.Error()
	}
	return n, ""
}

// need is how much room the images of the upgrade take on a node, and how that
// comes about. The installers of several legs are there at the same time: Talos
// deletes images that nobody uses, but not at once.
func (c *preflight) need(t UpgradeTarget) (int64, string) {
	var out int64
	var parts []string
	part := func(n int64, what string) {
		out += n
		parts = append(parts, fmt.Sprintf("%d for %s", mebi(n), what))
	}
	for _, i := range c.installers {
		if !slices.Contains(i.groups, t.Group) {
			continue
		}
		_, tag, _ := strings.Cut(i.image[strings.LastIndex(i.image, "/")+1:], ":")
		what := "the installer of " + tag
		if i.why != "" {
			what += ", by estimate"
		}
		part(i.bytes*(1+unpacked), what)
	}
	images := workerImages
	if t.Role == cluster.RoleControlPlane {
		images = controlPlaneImages
	}
	for _, leg := range c.in.Legs {
		if leg.Kind == plan.LegKubernetes {
			part(int64(images)*componentImage, fmt.Sprintf("%d images of Kubernetes %s, by estimate", images, leg.To.Kubernetes))
		}
	}
	return out, strings.Join(parts, ", ")
}

// room compares what a node has with what it needs.
func (c *preflight) room(t UpgradeTarget, free, disk int64) {
	need, parts := c.need(t)
	const do = "make room (images, logs and volumes of type emptyDir are there), or give its group a larger disk and replace it"
	switch {
	case free < 0:
	case free < need:
		c.problem(t.Node.Name, "has %d MiB free where images go, and this upgrade needs %d (%s): %s", free>>20, mebi(need), parts, do)
	case free-need < disk/diskReserve:
		c.warning(t.Node.Name, "has %d MiB free where images go; with the %d of this upgrade less than %d%% of the disk stay, below which a kubelet with its defaults evicts pods: %s",
			free>>20, mebi(need), diskReserve, do)
	}
}

// mebi rounds up.
func mebi(n int64) int64 { return (n + 1<<20 - 1) >> 20 }
