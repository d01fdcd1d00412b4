package aws

import (
	"net/url"
	"strings"
	"testing"

	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
)

func TestKinds(t *testing.T) {
	const same = fault.Kind("")
	for _, tc := range []struct {
		code   string
		status int
		// of a read, a create and a deletion; the same where there is only one
		read, create, remove fault.Kind
	}{
		{"InsufficientInstanceCapacity", 500, fault.Capacity, same, same},
		{"UnfulfillableCapacity", 500, fault.Capacity, same, same},
		{"Unsupported", 400, fault.Capacity, same, same},
		{"SpotMaxPriceTooLow", 400, fault.Capacity, same, same},
		{"VcpuLimitExceeded", 400, fault.Quota, same, same},
		{"VpcLimitExceeded", 400, fault.Quota, same, same},
		{"InsufficientFreeAddressesInSubnet", 400, fault.Quota, same, same},
		{"PendingVerification", 400, fault.Quota, same, same},
		{"TooManyLoadBalancersException", 400, fault.Quota, same, same},
		{"RequestLimitExceeded", 503, fault.RateLimited, same, same},
		{"Throttling", 400, fault.RateLimited, same, same},
		{"ThrottlingException", 400, fault.RateLimited, same, same},
		{"EC2ThrottledException", 400, fault.RateLimited, same, same},
		{"AuthFailure", 401, fault.Unauthorized, same, same},
		{"UnauthorizedOperation", 403, fault.Unauthorized, same, same},
		{"AccessDenied", 403, fault.Unauthorized, same, same},
		{"ExpiredToken", 400, fault.Unauthorized, same, same},
		{"InvalidClientTokenId", 403, fault.Unauthorized, same, same},
		{"OptInRequired", 403, fault.Unauthorized, same, same},
		{"InvalidInstanceID.NotFound", 400, fault.NotFound, fault.NotYet, fault.NotFound},
		{"InvalidVpcID.NotFound", 400, fault.NotFound, fault.NotYet, fault.NotFound},
		{"InvalidGroup.NotFound", 400, fault.NotFound, fault.NotYet, fault.NotFound},
		{"TargetGroupNotFound", 400, fault.NotFound, fault.NotYet, fault.NotFound},
		{"InvalidAMIID.NotFound", 400, fault.NotFound, fault.Invalid, fault.Invalid},
		{"InvalidAMIID.Unavailable", 400, fault.Invalid, same, same},
		{"InvalidParameterValue", 400, fault.Invalid, same, same},
		{"InvalidInstanceID.Malformed", 400, fault.Invalid, same, same},
		{"IdempotentParameterMismatch", 400, fault.Invalid, fault.Ambiguous, same},
		{"OperationNotPermitted", 400, fault.Unsafe, same, same},
		{"DependencyViolation", 400, fault.Conflict, same, same},
		{"ResourceInUse", 400, fault.Conflict, same, same},
		{"InvalidPlacementGroup.InUse", 400, fault.Conflict, same, same},
		{"InternalError", 500, fault.Unavailable, fault.Ambiguous, fault.NotYet},
		{"Unavailable", 503, fault.Unavailable, fault.Ambiguous, fault.NotYet},
		{"ServiceUnavailable", 503, fault.Unavailable, fault.Ambiguous, fault.NotYet},
		// Nobody knows these, whatever they look like.
		{"SomethingNew", 400, fault.Unavailable, fault.Ambiguous, fault.NotYet},
		{"SomethingNew.NotFound", 404, fault.Unavailable, fault.Ambiguous, fault.NotYet},
		{"SomethingNew", 429, fault.RateLimited, same, same},
		{"SomethingNew", 403, fault.Unauthorized, same, same},
	} {
		s := sample()
		w := &wire{answer: map[string]func(url.Values) (int, string){}}
		p := open(t, w)
		check := func(what string, err error, want fault.Kind) {
			t.Helper()
			if want == same {
				want = tc.read
			}
			if !fault.Is(err, want) {
				t.Errorf("%s with %s, %d: %v of kind %q, want %q", what, tc.code, tc.status, err, fault.KindOf(err), want)
			}
			if fault.Is(err, fault.RateLimited) && fault.RetryAfter(err) <= 0 {
				t.Errorf("%s with %s: a rate limit without a time", what, tc.code)
			}
		}
		no := refusal(tc.status, tc.code, "a reason")
		w.answer["DescribeInstances"] = no
		_, err := p.describe(t.Context(), "read")
		check("read", err, tc.read)
		p = open(t, w) // one that was not told to wait
		w.answer["DescribeInstances"], w.answer["RunInstances"] = nothing, no
		_, err = ensure(t, p, s)
		check("create", err, tc.create)
		w.answer["DeleteVpc"] = no
		p = open(t, w)
		k, kerr := p.Kind(kindVPC)
		if kerr != nil {
			t.Fatal(kerr)
		}
		if err = k.Remove(t.Context(), &item{ID: "vpc-1"}); err == nil && tc.remove == fault.NotFound {
			continue // absent is success
		}
		check("deletion", err, tc.remove)
	}
}

func TestFreshProfileIsNotInvalid(t *testing.T) {
	w := &wire{answer: map[string]func(url.Values) (int, string){
		"DescribeInstances": nothing, "RunInstances": refusal(400, "InvalidParameterValue", "Value (x) for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance Profile name"),
	}}
	if _, err := ensure(t, open(t, w), sample()); !fault.Is(err, fault.NotYet) {
		t.Errorf("got %v", err)
	}
}

// What proxies and broken answers say proves nothing.
func TestUnreadableAnswers(t *testing.T) {
	for _, tc := range []struct {
		status       int
		body         string
		read, create fault.Kind
	}{
		{200, "<html>", fault.Unavailable, fault.Ambiguous},
		{302, "", fault.Invalid, fault.Invalid},
		{404, "<html>not found</html>", fault.Unavailable, fault.Ambiguous},
		{404, "", fault.Unavailable, fault.Ambiguous},
		{429, "<html>slow down</html>", fault.RateLimited, fault.RateLimited},
		{502, "<html>bad gateway</html>", fault.Unavailable, fault.Ambiguous},
		{503, "", fault.Unavailable, fault.Ambiguous},
		{500, "{}", fault.Unavailable, fault.Ambiguous},
		{0, "", fault.Unavailable, fault.Ambiguous},
	} {
		no := func(url.Values) (int, string) { return tc.status, tc.body }
		w := &wire{answer: map[string]func(url.Values) (int, string){"DescribeInstances": no}}
		if _, err := open(t, w).ListMachines(t.Context(), sample().Owner); !fault.Is(err, tc.read) {
			t.Errorf("read, %d %q: %v of kind %q, want %q", tc.status, tc.body, err, fault.KindOf(err), tc.read)
		}
		w.answer["DescribeInstances"], w.answer["RunInstances"] = nothing, no
		if _, err := ensure(t, open(t, w), sample()); !fault.Is(err, tc.create) {
			t.Errorf("create, %d %q: %v of kind %q, want %q", tc.status, tc.body, err, fault.KindOf(err), tc.create)
		}
	}
}

// Refusals may repeat what was sent.
func TestNoSecretsInErrors(t *testing.T) {
	for code, message := range map[string]string{
		"SignatureDoesNotMatch":     "The Canonical String for this request should have been 'POST / x-amz-security-token:session-canary'",
		"InvalidUserData.Malformed": "user data config-canary is bad",
		"InvalidParameterValue":     "Value (config-canary) for parameter userData is invalid",
		"UnauthorizedOperation":     "You are not authorized. Encoded authorization failure message: session-canary",
	} {
		w := &wire{answer: map[string]func(url.Values) (int, string){"DescribeInstances": nothing, "RunInstances": refusal(400, code, message)}}
		_, err := ensure(t, open(t, w), sample())
		if err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v", code, err)
		}
		for ; err != nil; err = unwrap(err) {
			if strings.Contains(err.Error(), "canary") {
				t.Errorf("%s: the cause says %v", code, err)
			}
		}
	}
}

func unwrap(err error) error {
	u, ok := err.(interface{ Unwrap() error })
	if !ok {
		return nil
	}
	return u.Unwrap()
}

func TestCredentials(t *testing.T) {
	for name, bad := range map[string]string{
		"no JSON": "AKIDCANARY:secret-canary", "no secret": `{"accessKeyId":"AKIDCANARY"}`, "a line break": `{"accessKeyId":"AKIDCANARY","secretAccessKey":"secret-canary\n"}`,
	} {
		_, err := New(t.Context(), Options{Region: "eu-central-1", Credentials: secrets.NewValue([]byte(bad))})
		if !fault.Is(err, fault.Unauthorized) || strings.Contains(err.Error(), "canary") || strings.Contains(err.Error(), "CANARY") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, region := range []string{"", "eu-central-1a", "eu central", "x"} {
		if _, err := New(t.Context(), Options{Region: region, Credentials: secrets.NewValue([]byte(keys))}); !fault.Is(err, fault.Invalid) {
			t.Errorf("region %q: %v", region, err)
		}
	}
	// The chain finds nothing: that is a matter of credentials, not of networks.
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	t.Setenv("AWS_CONFIG_FILE", t.TempDir()+"/none")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", t.TempDir()+"/none")
	w := &wire{}
	p := open(t, w, func(o *Options) { o.Credentials = secrets.Value{} })
	if _, err := p.ListMachines(t.Context(), sample().Owner); !fault.Is(err, fault.Unauthorized) {
		t.Errorf("without credentials: %v", err)
	}
	if len(w.calls) != 0 {
		t.Errorf("calls without credentials: %v", w.calls)
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "AKID")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	w.answer = map[string]func(url.Values) (int, string){"DescribeInstances": nothing}
	p = open(t, w, func(o *Options) { o.Credentials = secrets.Value{} })
	if _, err := p.ListMachines(t.Context(), sample().Owner); err != nil {
		t.Errorf("with the chain: %v", err)
	}
}

// A throttled action holds back itself and nothing else.
func TestGate(t *testing.T) {
	w := &wire{answer: map[string]func(url.Values) (int, string){"DescribeInstances": nothing, "RunInstances": refusal(503, "RequestLimitExceeded", "slow")}}
	p := open(t, w)
	s := sample()
	for range 3 {
		if _, err := ensure(t, p, s); !fault.Is(err, fault.RateLimited) || fault.RetryAfter(err) <= 0 {
			t.Errorf("got %v", err)
		}
	}
	if n := w.called("RunInstances"); n != 1 {
		t.Errorf("%d creates while throttled", n)
	}
	if n := w.called("DescribeInstances"); n != 3 {
		t.Errorf("%d reads, want 3", n)
	}
}
