package cluster

import "slices"

// DefaultArch is the architecture of an image of which nothing is said.
const DefaultArch = "amd64"

// Variant is the operating system of some groups of a cluster, in the words of
// Frozen.
type Variant struct {
	Groups         []string `json:"groups"` // sorted
	Arch           string   `json:"arch,omitempty"`
	Schematic      string   `json:"schematic,omitempty"`
	Image          string   `json:"image,omitempty"`
	ImageURL       string   `json:"imageURL,omitempty"`
	ImageID        string   `json:"imageID,omitempty"`
	InstallerImage string   `json:"installerImage,omitempty"`
}

// Architecture is that of the image.
func (f Frozen) Architecture() string { return or(f.Arch, DefaultArch) }

// For is what a group runs: the cluster's own, or the variant that names it.
func (f Frozen) For(group string) Frozen {
	for _, v := range f.Variants {
		if slices.Contains(v.Groups, group) {
			return f.as(v)
		}
	}
	return f
}

func (f Frozen) as(v Variant) Frozen {
	f.Arch, f.Schematic, f.InstallerImage = v.Arch, v.Schematic, v.InstallerImage
	f.Image, f.ImageURL, f.ImageID = v.Image, v.ImageURL, v.ImageID
	return f
}

// InstallPatch is the config patch by which a group gets the installer of what it
// runs; nil when that is the cluster's own.
func (f Frozen) InstallPatch(group string) []byte {
	own := f.For(group).InstallerImage
	if own == f.InstallerImage {
		return nil
	}
	return []byte("machine:\n  install:\n    image: " + own + "\n")
}

// Images are the cluster's own image and those of its variants, each once.
func (f Frozen) Images() []Frozen {
	out := []Frozen{f}
	for _, v := range f.Variants {
		if !slices.ContainsFunc(out, func(o Frozen) bool { return o.Image == v.Image }) {
			out = append(out, f.as(v))
		}
	}
	return slices.DeleteFunc(out, func(o Frozen) bool { return o.Image == "" })
}

// Learned is f with the cloud's id of an image. f itself stays as it is.
func (f Frozen) Learned(image, id string) Frozen {
	if f.Image == image {
		f.ImageID = id
	}
	f.Variants = slices.Clone(f.Variants)
	for i := range f.Variants {
		if f.Variants[i].Image == image {
			f.Variants[i].ImageID = id
		}
	}
	return f
}

// Vary is f with what a group runs, told as the whole of a Frozen. What is the same
// as f itself, or as a variant that is there, is that one.
func (f Frozen) Vary(group string, runs Frozen) Frozen {
	if runs.Architecture() == f.Architecture() && runs.Schematic == f.Schematic && runs.Image == f.Image {
		return f
	}
	f.Variants = slices.Clone(f.Variants)
	for i, v := range f.Variants {
		if v.Image == runs.Image && v.Schematic == runs.Schematic {
			v.Groups = append(slices.Clone(v.Groups), group)
			slices.Sort(v.Groups)
			f.Variants[i] = v
			return f
		}
	}
	f.Variants = append(f.Variants, Variant{
		Groups: []string{group}, Arch: runs.Arch, Schematic: runs.Schematic, InstallerImage: runs.InstallerImage,
		Image: runs.Image, ImageURL: runs.ImageURL, ImageID: runs.ImageID,
	})
	return f
}

// SameVariants reports whether two clusters' groups run the same apart from what is
// cluster-wide; ids of images do not count where one is not known.
func SameVariants(a, b []Variant) bool {
	return slices.EqualFunc(a, b, func(x, y Variant) bool {
		if x.ImageID == "" || y.ImageID == "" {
			x.ImageID, y.ImageID = "", ""
		}
		return slices.Equal(x.Groups, y.Groups) && x.Arch == y.Arch && x.Schematic == y.Schematic && x.Image == y.Image &&
			x.ImageURL == y.ImageURL && x.ImageID == y.ImageID && x.InstallerImage == y.InstallerImage
	})
}

// TalosOf is the operating system that a spec wants for a group.
func (s Spec) TalosOf(group string) Talos {
	t := s.Talos
	for _, g := range s.NodeGroups {
		if g.Name == group && (g.Schematic != "" || len(g.Extensions) > 0) {
			t.Schematic, t.Extensions = g.Schematic, slices.Clone(g.Extensions)
		}
	}
	return t
}
