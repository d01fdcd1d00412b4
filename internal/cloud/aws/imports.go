package aws

import (
	"context"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	ebstypes "github.com/aws/aws-sdk-go-v2/service/ebs/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cloud/exchange"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
)

// An import is a snapshot that this process writes from the image's URL, and
// from which an image is registered. It carries all that another process needs to
// go on with it. Blocks are written again by whoever takes over, to the same
// effect; the cloud itself ends an import that nobody writes to.
const (
	snapshotPrefix = "snap-"
	// tagSource and tagArch say what an import is made of.
	tagSource = cluster.TagPrefix + "source"
	tagArch   = cluster.TagPrefix + "arch"
	// imageGiB is the size of a disk of Talos (imager, default size of raw disks).
	imageGiB = 8
	// idleMinutes end an import that nobody writes to (EBS direct APIs, timeout).
	idleMinutes = 60
)

// snapshot is as much of a snapshot as is used here.
type snapshot struct {
	id      string
	state   types.SnapshotState
	message string
	started time.Time
	tags    map[string]string
}

func (s *snapshot) image() cloud.Image {
	return cloud.Image{ID: s.id, Name: s.tags[cluster.TagImage], State: cloud.ImageImporting, Users: cloud.ImageUsers(s.tags)}
}

func (p *Provider) describeSnapshots(ctx context.Context, op string, in *ec2.DescribeSnapshotsInput) ([]snapshot, error) {
	return pages(ctx, p, op, "DescribeSnapshots", func(ctx context.Context, token *string) ([]snapshot, *string, error) {
		in.NextToken = token
		page, err := p.ec2.DescribeSnapshots(ctx, in)
		if err != nil {
			return nil, nil, err
		}
		var out []snapshot
		for _, s := range page.Snapshots {
			it := snapshot{
				id: sdk.ToString(s.SnapshotId), state: s.State, message: exchange.Clip(sdk.ToString(s.StateMessage)), started: sdk.ToTime(s.StartTime), tags: tagMap(s.Tags),
			}
			p.seen.Saw(it.id, it.started)
			out = append(out, it)
		}
		return out, page.NextToken, nil
	})
}

func (p *Provider) deleteSnapshot(ctx context.Context, id string) error {
	err := p.erase(ctx, "snapshot", "DeleteSnapshot", func(ctx context.Context) error {
		_, err := p.ec2.DeleteSnapshot(ctx, &ec2.DeleteSnapshotInput{SnapshotId: sdk.String(id)})
		return err
	})
	if err == nil {
		p.seen.Deleted(id)
		p.uploads.stop(id)
	}
	return err
}

// format is how an image comes; nothing if it cannot be imported.
func format(url string) string {
	base := path.Base(url)
	for _, suffix := range []string{".raw", ".raw.gz"} {
		if strings.HasSuffix(base, suffix) {
			return suffix
		}
	}
	return ""
}

// startImport makes the empty snapshot.
func (p *Provider) startImport(ctx context.Context, req cloud.EnsureImageRequest, sendBy time.Time) (cloud.ImageLook, error) {
	op := "import image " + req.Spec.Name
	switch {
	case format(req.Spec.URL) == "":
		return cloud.ImageLook{}, fault.New(fault.Invalid, op, "images are made of .raw and .raw.gz, not of %q", path.Base(req.Spec.URL))
	case len(req.Spec.URL) > 256 || strings.ContainsAny(req.Spec.URL, "?%#"):
		return cloud.ImageLook{}, fault.New(fault.Invalid, op, "the image's URL does not fit into a tag")
	}
	tags := map[string]string{
		cluster.TagImage: req.Spec.Name, tagName: req.Spec.Name, tagSource: req.Spec.URL, tagArch: req.Spec.Arch,
		cluster.TagImageUser + req.User.Cluster.UID: req.User.Cluster.Name,
	}
	var sent []ebstypes.Tag
	for _, t := range ec2Tags(tags) {
		sent = append(sent, ebstypes.Tag{Key: t.Key, Value: t.Value})
	}
	var out *ebs.StartSnapshotOutput
	err := p.calls.Call(ctx, exchange.Request{Op: op, Action: "StartSnapshot", Verb: exchange.Create, SendBy: sendBy}, func(ctx context.Context) (err error) {
		out, err = p.ebs.StartSnapshot(ctx, &ebs.StartSnapshotInput{
			VolumeSize: sdk.Int64(imageGiB), Description: sdk.String(req.Spec.Name), Tags: sent, Timeout: sdk.Int32(idleMinutes),
		})
		return err
	})
	if err != nil {
		return cloud.ImageLook{}, err
	}
	s := snapshot{id: sdk.ToString(out.SnapshotId), tags: tags}
	if !strings.HasPrefix(s.id, snapshotPrefix) {
		return cloud.ImageLook{}, fault.New(fault.Ambiguous, op, "the cloud answered without an id")
	}
	p.seen.Making(s.id)
	p.seen.Saw(s.id, time.Time{})
	im := s.image()
	return cloud.ImageLook{Image: &im, Created: true}, nil
}

// importing goes on with an import: it sees to it that the snapshot is being
// written, and then that an image is registered from it.
func (p *Provider) importing(ctx context.Context, id string) (cloud.Image, error) {
	const op = "read image"
	if im, failed := p.uploads.failed(id); failed {
		return im, nil
	}
	found, err := p.describeSnapshots(ctx, op, &ec2.DescribeSnapshotsInput{SnapshotIds: []string{id}})
	if fault.Is(err, fault.NotFound) || err == nil && len(found) == 0 {
		return cloud.Image{}, p.seen.Absent(op, id)
	}
	if err != nil {
		return cloud.Image{}, err
	}
	s := found[0]
	im := s.image()
	switch {
	case s.tags[cluster.TagImage] == "" || s.tags[tagSource] == "":
		return im, fault.New(fault.Conflict, op, "snapshot %s is no import", id)
	case s.state == types.SnapshotStateError:
		im.State, im.Message = cloud.ImageFailed, s.message
		return im, nil
	case s.state == types.SnapshotStateCompleted:
		p.uploads.stop(id)
		return p.register(ctx, &s)
	}
	done, err := p.uploads.write(id, func(ctx context.Context) error { return p.write(ctx, s.id, s.tags[tagSource]) })
	if done && fault.Is(err, fault.Invalid) {
		// It would fail again, so nobody is to go on with it.
		im.State, im.Message = cloud.ImageFailed, err.Error()
		if err := p.deleteSnapshot(ctx, id); err != nil {
			return cloud.Image{}, err
		}
		p.uploads.fail(im)
		return im, nil
	}
	return im, err
}

// register makes the image, once: its name is unique in the account.
func (p *Provider) register(ctx context.Context, s *snapshot) (cloud.Image, error) {
	name := s.tags[cluster.TagImage]
	op := "register image " + name
	images, _, err := p.imported(ctx, op, filter("tag:"+cluster.TagImage, name))
	if err != nil {
		return cloud.Image{}, err
	}
	if n := slices.IndexFunc(images, func(a ami) bool { return a.snapshot == s.id }); n >= 0 {
		// Marks that came while it was registered are on the snapshot only.
		im := images[n]
		marks := map[string]string{}
		for k, v := range s.tags {
			if strings.HasPrefix(k, cluster.TagImageUser) {
				marks[k] = v
			}
		}
		return im.Image, p.markImage(ctx, &im.Image, im.tags, marks, im.ID)
	}
	tags := map[string]string{}
	for k, v := range s.tags {
		if k != tagSource {
			tags[k] = v
		}
	}
	arch := types.ArchitectureValuesX8664
	if s.tags[tagArch] == "arm64" {
		arch = types.ArchitectureValuesArm64
	}
	err = p.change(ctx, op, "RegisterImage", func(ctx context.Context) error {
		_, err := p.ec2.RegisterImage(ctx, &ec2.RegisterImageInput{
			Name: sdk.String("ichor-" + cloud.Fingerprint("image", name)), Description: sdk.String(name), Architecture: arch,
			BootMode: types.BootModeValuesUefi, ImdsSupport: types.ImdsSupportValuesV20, EnaSupport: sdk.Bool(true), VirtualizationType: sdk.String("hvm"),
			RootDeviceName: sdk.String(rootDevice),
			BlockDeviceMappings: []types.BlockDeviceMapping{{
				DeviceName: sdk.String(rootDevice),
				Ebs:        &types.EbsBlockDevice{SnapshotId: sdk.String(s.id), VolumeType: types.VolumeTypeGp3, DeleteOnTermination: sdk.Bool(true)},
			}},
			TagSpecifications: []types.TagSpecification{tagsAt(types.ResourceTypeImage, tags)},
		})
		return err
	})
	if codeOf(err) == "InvalidAMIName.Duplicate" {
		err = nil // it is there, and not visible yet
	}
	return s.image(), err
}

// uploads are the snapshots that this process writes. A write goes on while
// somebody asks for it.
type uploads struct {
	idle time.Duration

	mu      sync.Mutex
	running map[string]*upload
	dead    map[string]cloud.Image
}

type upload struct {
	cancel context.CancelFunc
	stop   *time.Timer // ends it when nobody asks
	done   chan struct{}
	err    error
}

func newUploads(idle time.Duration) *uploads {
	return &uploads{idle: idle, running: map[string]*upload{}, dead: map[string]cloud.Image{}}
}

// write sees to it that f runs, and reports whether it has ended and how. After
// an error the next call begins again.
func (u *uploads) write(id string, f func(context.Context) error) (done bool, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	w := u.running[id]
	if w == nil {
		ctx, cancel := context.WithCancel(context.Background())
		w = &upload{cancel: cancel, stop: time.AfterFunc(u.idle, cancel), done: make(chan struct{})}
		u.running[id] = w
		go func() {
			defer cancel()
			w.err = f(ctx)
			close(w.done)
		}()
	}
	w.stop.Reset(u.idle)
	select {
	case <-w.done:
		w.stop.Stop()
		if w.err != nil {
			delete(u.running, id)
		}
		return true, w.err
	default:
		return false, nil
	}
}

// stop ends a write that is of no use any more.
func (u *uploads) stop(id string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if w := u.running[id]; w != nil {
		w.stop.Stop()
		w.cancel()
		delete(u.running, id)
	}
}

// fail remembers why an import failed whose snapshot is gone.
func (u *uploads) fail(im cloud.Image) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.dead) > 1000 {
		clear(u.dead)
	}
	u.dead[im.ID] = im
}

func (u *uploads) failed(id string) (cloud.Image, bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	im, ok := u.dead[id]
	return im, ok
}
