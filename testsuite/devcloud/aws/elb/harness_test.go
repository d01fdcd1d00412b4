package elb_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
	"github.com/aws/smithy-go"
	"go.uber.org/goleak"

	"github.com/ichor-project/ichor/testsuite/devcloud/aws/account"
	"github.com/ichor-project/ichor/testsuite/devcloud/aws/elb"
	"github.com/ichor-project/ichor/testsuite/devcloud/aws/lender"
	"github.com/ichor-project/ichor/testsuite/devcloud/aws/sigv4"
	"github.com/ichor-project/ichor/testsuite/devcloud/faults"
	"github.com/ichor-project/ichor/testsuite/devcloud/world"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds waits for something that must happen; it is no measure of
// speed.
const patience = 60 * time.Second

// site is an account with a network and a client of the vendor's.
type site struct {
	*sdk.Client
	t         *testing.T
	account   *account.Account
	elb       *elb.Service
	faults    *faults.Injector
	addresses *lender.Lender
	vpc       string
	subnets   []string
	group     string // lets in everything from the VPC
}

// speed divides simulated durations: provisioning takes a fifth of a second.
const speed = 600

func start(t *testing.T) *site {
	t.Helper()
	lent := lender.New(251)
	clock := world.NewClock(speed)
	a := account.New(account.Options{
		Clock: clock, Addresses: lent, Settings: &account.Settings{PageLimit: 1000}, TalosVersions: []string{"v1.13.0"},
	})
	e := elb.New(elb.Options{Account: a})
	in := faults.New(clock, 0, nil)
	srv := httptest.NewServer(in.Wrap(signed(t, a, e.Server())))
	t.Cleanup(func() {
		srv.Close()
		e.Close()
		a.Close()
		if n := lent.Lent(); n > 0 {
			t.Errorf("%d addresses are still lent", n)
		}
	})
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	s := &site{
		t: t, account: a, elb: e, faults: in, addresses: lent,
		Client: sdk.New(sdk.Options{
			Region: account.Region, BaseEndpoint: aws.String(srv.URL), Retryer: aws.NopRetryer{}, HTTPClient: &http.Client{Transport: transport},
			Credentials: credentials.NewStaticCredentialsProvider(account.DefaultKey, account.DefaultSecret, ""),
		}),
	}
	s.network()
	return s
}

// signed lets through what is signed for the service.
func signed(t *testing.T, a *account.Account, next http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		if _, err := sigv4.Verify(r, body, sigv4.Scope{Region: account.Region, Service: elb.Signed}, a.Secret, time.Now()); err != nil {
			t.Errorf("signature: %v", err)
		}
		next.ServeHTTP(rw, r)
	})
}

// network makes a VPC with a gateway and a subnet in each of two zones.
func (s *site) network() {
	s.t.Helper()
	v := s.account.Omniscient()
	vpc := must(v.CreateVPC("10.0.0.0/16", nil))(s.t)
	s.vpc = vpc.ID
	igw := v.CreateInternetGateway(nil)
	check(s.t, v.AttachInternetGateway(igw.ID, vpc.ID))
	table := must(v.CreateRouteTable(vpc.ID, "", nil))(s.t)
	check(s.t, v.CreateRoute(table.ID, "0.0.0.0/0", igw.ID))
	for n, zone := range []string{"a", "b"} {
		sub := must(v.CreateSubnet(vpc.ID, fmt.Sprintf("10.0.%d.0/24", n), account.Region+zone, nil))(s.t)
		must(v.AssociateRouteTable(table.ID, sub.ID))(s.t)
		yes := true
		check(s.t, v.ModifySubnet(sub.ID, &yes))
		s.subnets = append(s.subnets, sub.ID)
	}
	g := must(v.CreateSecurityGroup("nodes", "nodes", vpc.ID, nil))(s.t)
	must(v.AuthorizeIngress(g.ID, []account.Rule{{Protocol: "-1", From: -1, To: -1, CIDR: vpc.CIDR}}, nil))(s.t)
	s.group = g.ID
}

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		check(t, err)
		return v
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wantCode checks the code of a refusal; empty means success.
func wantCode(t *testing.T, err error, want string) {
	t.Helper()
	var api smithy.APIError
	got := ""
	switch {
	case errors.As(err, &api):
		got = api.ErrorCode()
	case err != nil:
		t.Fatal(err)
	}
	if got != want {
		t.Fatalf("code %q, want %q: %v", got, want, err)
	}
}

// eventually waits for something that must happen.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: never", what)
		}
	}
}

// machine is a running instance that answers each connection to its port with
// its name and the address that it sees.
type machine struct {
	id, private string
	loopback    netip.Addr
	port        uint16
	stop        func()
}

func (s *site) machine(subnet, port int) *machine {
	s.t.Helper()
	v := s.account.Omniscient()
	var image string
	for _, i := range v.Images() {
		if i.Owner == account.TalosOwner && i.Arch == "x86_64" {
			image = i.ID
		}
	}
	i := must(v.Launch(account.LaunchSpec{Type: "m6i.large", Image: image, Subnet: s.subnets[subnet], Groups: []string{s.group}}))(s.t)
	eventually(s.t, "instance runs", func() bool {
		i = must(s.account.Instance(i.ID))(s.t)
		return i.State == account.Running
	})
	m := &machine{id: i.ID, private: i.Private, loopback: i.Interfaces[0].Loopback}
	l, err := net.Listen("tcp", netip.AddrPortFrom(m.loopback, uint16(port)).String())
	check(s.t, err)
	m.port = netip.MustParseAddrPort(l.Addr().String()).Port()
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				from := netip.MustParseAddrPort(c.RemoteAddr().String()).Addr()
				_, _ = fmt.Fprintf(c, "%s %s\n", m.id, from) // fails when a check has left
				_, _ = io.Copy(c, c)                         // likewise
				_ = c.Close()                                // likewise
			})
		}
	})
	m.stop = sync.OnceFunc(func() {
		if err := l.Close(); err != nil {
			s.t.Error(err)
		}
	})
	s.t.Cleanup(func() { m.stop(); wg.Wait() })
	return m
}

// ask returns what answers behind an address, or "" when the connection is
// closed without a word.
func (s *site) ask(from netip.Addr, to string) string {
	s.t.Helper()
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))}
	c, err := d.DialContext(s.t.Context(), "tcp", to)
	if err != nil {
		return ""
	}
	defer func() {
		if err := c.Close(); err != nil {
			s.t.Error(err)
		}
	}()
	check(s.t, c.SetReadDeadline(time.Now().Add(patience)))
	line := make([]byte, 200)
	n, err := c.Read(line)
	if err != nil {
		return ""
	}
	return string(bytes.TrimSpace(line[:n]))
}

var outside = netip.MustParseAddr("127.0.0.1")

// balancer makes an active load balancer in both subnets.
func (s *site) balancer(name string) types.LoadBalancer {
	s.t.Helper()
	out, err := s.CreateLoadBalancer(s.t.Context(), &sdk.CreateLoadBalancerInput{
		Name: aws.String(name), Type: types.LoadBalancerTypeEnumNetwork, Subnets: s.subnets,
	})
	check(s.t, err)
	arn := aws.ToString(out.LoadBalancers[0].LoadBalancerArn)
	eventually(s.t, "load balancer is active", func() bool { return s.state(arn) == types.LoadBalancerStateEnumActive })
	return out.LoadBalancers[0]
}

func (s *site) state(arn string) types.LoadBalancerStateEnum {
	s.t.Helper()
	out, err := s.DescribeLoadBalancers(s.t.Context(), &sdk.DescribeLoadBalancersInput{LoadBalancerArns: []string{arn}})
	check(s.t, err)
	return out.LoadBalancers[0].State.Code
}

// targetGroup makes a group with fast checks that preserves clients or not.
func (s *site) targetGroup(name string, port uint16, preserve bool) string {
	s.t.Helper()
	out, err := s.CreateTargetGroup(s.t.Context(), &sdk.CreateTargetGroupInput{
		Name: aws.String(name), Protocol: types.ProtocolEnumTcp, Port: aws.Int32(int32(port)), VpcId: aws.String(s.vpc),
		HealthCheckIntervalSeconds: aws.Int32(10), HealthyThresholdCount: aws.Int32(2),
	})
	check(s.t, err)
	arn := aws.ToString(out.TargetGroups[0].TargetGroupArn)
	check(s.t, s.setGroup(arn, "preserve_client_ip.enabled", strconv.FormatBool(preserve)))
	return arn
}

func (s *site) setGroup(arn, key, value string) error {
	_, err := s.ModifyTargetGroupAttributes(s.t.Context(), &sdk.ModifyTargetGroupAttributesInput{
		TargetGroupArn: aws.String(arn), Attributes: []types.TargetGroupAttribute{{Key: aws.String(key), Value: aws.String(value)}},
	})
	return err
}

func (s *site) listen(balancer *string, group string, port int32) string {
	s.t.Helper()
	out, err := s.CreateListener(s.t.Context(), &sdk.CreateListenerInput{
		LoadBalancerArn: balancer, Protocol: types.ProtocolEnumTcp, Port: aws.Int32(port),
		DefaultActions: []types.Action{{Type: types.ActionTypeEnumForward, TargetGroupArn: aws.String(group)}},
	})
	check(s.t, err)
	return aws.ToString(out.Listeners[0].ListenerArn)
}

func (s *site) register(group string, ids ...string) error {
	in := &sdk.RegisterTargetsInput{TargetGroupArn: aws.String(group)}
	for _, id := range ids {
		in.Targets = append(in.Targets, types.TargetDescription{Id: aws.String(id)})
	}
	_, err := s.RegisterTargets(s.t.Context(), in)
	return err
}

// health is the state and reason of one target.
func (s *site) health(group, id string) string {
	s.t.Helper()
	out, err := s.DescribeTargetHealth(s.t.Context(), &sdk.DescribeTargetHealthInput{
		TargetGroupArn: aws.String(group), Targets: []types.TargetDescription{{Id: aws.String(id)}},
	})
	check(s.t, err)
	h := out.TargetHealthDescriptions[0].TargetHealth
	if h.Reason == "" {
		return string(h.State)
	}
	return string(h.State) + " " + string(h.Reason)
}

func (s *site) becomes(group, id, want string) {
	s.t.Helper()
	eventually(s.t, want, func() bool { return s.health(group, id) == want })
}
