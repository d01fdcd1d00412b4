package talosnode_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/siderolabs/talos/pkg/machinery/api/machine"

	"github.com/ichor-project/ichor/testsuite/devcloud/talosnode/nodetest"
)

func TestApplyModes(t *testing.T) {
	t.Parallel()

	live := "machine: {sysctls: {vm.swappiness: \"1\"}}"
	needsReboot := "machine: {udev: {rules: [\"a\"]}}"

	tests := []struct {
		contract, version, patch string
		mode                     machine.ApplyConfigurationRequest_Mode
		want                     codes.Code
		chosen                   machine.ApplyConfigurationRequest_Mode
		reboots                  bool
	}{
		{"v1.13", "v1.13.5", live, machine.ApplyConfigurationRequest_NO_REBOOT, codes.OK, machine.ApplyConfigurationRequest_NO_REBOOT, false},
		{"v1.13", "v1.13.5", live, machine.ApplyConfigurationRequest_AUTO, codes.OK, machine.ApplyConfigurationRequest_NO_REBOOT, false},
		{"v1.13", "v1.13.5", needsReboot, machine.ApplyConfigurationRequest_NO_REBOOT, codes.InvalidArgument, 0, false},
		{"v1.13", "v1.13.5", needsReboot, machine.ApplyConfigurationRequest_AUTO, codes.OK, 0, true},
		{"v1.13", "v1.13.5", live, 0, codes.OK, 0, true},
		{"v1.14", "v1.14.1", "", 0, codes.Unimplemented, 0, false},
		{"v1.14", "v1.14.1", "cluster: {externalCloudProvider: {enabled: true}}", machine.ApplyConfigurationRequest_AUTO, codes.OK, machine.ApplyConfigurationRequest_NO_REBOOT, false},
		{"v1.14", "v1.14.1", "", machine.ApplyConfigurationRequest_STAGED, codes.OK, machine.ApplyConfigurationRequest_STAGED, false},
	}

	for _, tt := range tests {
		t.Run(fmt.Sprintf("%s %s %s", tt.version, tt.mode, tt.patch), func(t *testing.T) {
			_, p, _, c := single(t, tt.contract, tt.version)
			before := currentBoot(t, c)

			var patches []string
			if tt.patch != "" {
				patches = append(patches, tt.patch)
			}

			reply, err := c.ApplyConfiguration(call(t), &machine.ApplyConfigurationRequest{Data: p.ControlPlane(patches...), Mode: tt.mode})
			if status.Code(err) != tt.want {
				t.Fatalf("%v, want %s", err, tt.want)
			}

			if err == nil && reply.GetMessages()[0].GetMode() != tt.chosen {
				t.Errorf("mode %s", reply.GetMessages()[0].GetMode())
			}

			if tt.reboots {
				rebooted(t, c, before)
			} else if id := currentBoot(t, c); id != before {
				t.Error("it rebooted")
			}
		})
	}
}

func TestTryReverts(t *testing.T) {
	t.Parallel()

	l, p, s, c := single(t, "v1.14", "v1.14.1")

	_, err := c.ApplyConfiguration(call(t), &machine.ApplyConfigurationRequest{
		Data: p.ControlPlane("apiVersion: v1alpha1\nkind: NetworkDefaultActionConfig\ningress: block\n"),
		Mode: machine.ApplyConfigurationRequest_TRY, TryModeTimeout: durationpb.New(10 * time.Minute),
	})
	if err != nil {
		t.Fatal(err)
	}

	nodetest.Logged(t, l.Fleet.Node(s.UUID), "reverting")

	if _, err := c.Version(call(t)); err != nil {
		t.Errorf("still locked out: %v", err)
	}
}

func TestDryRun(t *testing.T) {
	t.Parallel()

	_, p, _, c := single(t, "v1.13", "v1.13.5")

	reply, err := c.ApplyConfiguration(call(t), &machine.ApplyConfigurationRequest{
		Data: p.ControlPlane("machine: {sysctls: {vm.swappiness: \"1\"}}"), Mode: machine.ApplyConfigurationRequest_AUTO, DryRun: true,
	})
	if err != nil {
		t.Fatal(err)
	}

	if d := reply.GetMessages()[0].GetModeDetails(); !strings.Contains(d, "vm.swappiness") {
		t.Errorf("no diff in %q", d)
	}
}
