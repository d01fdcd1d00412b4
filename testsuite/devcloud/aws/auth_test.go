package aws_test

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strings"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/ichor-project/ichor/testsuite/devcloud/aws/account"
)

func TestCredentials(t *testing.T) {
	c := start(t)
	open := account.Settings{PageLimit: 1000}
	closed := open
	closed.Keys = map[string]string{"AKIAOTHER": "other", "ASIATEMP": "temporary:session"}
	denied := open
	denied.Denied = []string{"DescribeVpcs"}
	for name, test := range map[string]struct {
		settings                     account.Settings
		key, secret, session, region string
		code                         string
		status                       int
	}{
		"good":              {open, account.DefaultKey, account.DefaultSecret, "", account.Region, "", 0},
		"unknown key":       {open, "AKIAOTHER", account.DefaultSecret, "", account.Region, "AuthFailure", 401},
		"wrong secret":      {open, account.DefaultKey, "guess", "", account.Region, "SignatureDoesNotMatch", 403},
		"another region":    {open, account.DefaultKey, account.DefaultSecret, "", "us-east-1", "SignatureDoesNotMatch", 403},
		"a session of none": {open, account.DefaultKey, account.DefaultSecret, "x", account.Region, "AuthFailure", 401},
		"revoked key":       {closed, account.DefaultKey, account.DefaultSecret, "", account.Region, "AuthFailure", 401},
		"another key":       {closed, "AKIAOTHER", "other", "", account.Region, "", 0},
		"temporary key":     {closed, "ASIATEMP", "temporary", "session", account.Region, "", 0},
		"session ended":     {closed, "ASIATEMP", "temporary", "old", account.Region, "AuthFailure", 401},
		"no session":        {closed, "ASIATEMP", "temporary", "", account.Region, "AuthFailure", 401},
		"policy":            {denied, account.DefaultKey, account.DefaultSecret, "", account.Region, "UnauthorizedOperation", 403},
	} {
		t.Run(name, func(t *testing.T) {
			c.account.SetSettings(test.settings)
			_, err := c.client(test.key, test.secret, test.session, test.region).DescribeVpcs(t.Context(), &ec2.DescribeVpcsInput{})
			if test.code == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if got, status := code(err); got != test.code || status != test.status {
				t.Errorf("got %v, want %s, %d", err, test.code, test.status)
			}
		})
	}
}

func TestDryRun(t *testing.T) {
	c := start(t)
	_, err := c.CreateVpc(t.Context(), &ec2.CreateVpcInput{CidrBlock: p("10.0.0.0/16"), DryRun: p(true)})
	if got, status := code(err); got != "DryRunOperation" || status != 412 {
		t.Errorf("got %v", err)
	}
	if n := c.account.State().Count; n != 0 {
		t.Errorf("%d resources were made", n)
	}
}

// TestSignatures sends what the SDK never sends.
func TestSignatures(t *testing.T) {
	c := start(t)
	endpoint := c.aws.Endpoints(c.url)["AWS_ENDPOINT_URL_EC2"]
	const form = "Action=DescribeVpcs&Version=2016-11-15"
	sum := sha256.Sum256([]byte(form))
	other := sha256.Sum256([]byte("Action=DescribeSubnets"))
	for name, test := range map[string]struct {
		signed [32]byte // what the signature is of, if there is one
		at     time.Duration
		bend   func(*http.Request)
		want   string
	}{
		"unsigned":              {want: "MissingAuthenticationToken"},
		"another scheme":        {bend: func(r *http.Request) { r.Header.Set("Authorization", "Bearer x") }, want: "IncompleteSignature"},
		"another body":          {signed: other, want: "SignatureDoesNotMatch"},
		"signed long ago":       {signed: sum, at: -time.Hour, want: "RequestExpired"},
		"signed in the future":  {signed: sum, at: time.Hour, want: "RequestExpired"},
		"as it should be":       {signed: sum, want: ""},
		"without signed host":   {signed: sum, bend: func(r *http.Request) { strip(r, "host;") }, want: "IncompleteSignature"},
		"without its signature": {signed: sum, bend: func(r *http.Request) { cut(r, ", Signature=") }, want: "IncompleteSignature"},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, endpoint, strings.NewReader(form))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			if test.signed != [32]byte{} {
				sign(t, r, hex.EncodeToString(test.signed[:]), time.Now().Add(test.at))
			}
			if test.bend != nil {
				test.bend(r)
			}
			_, found, _ := strings.Cut(answer(t, r), "<Code>")
			if got, _, _ := strings.Cut(found, "</Code>"); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

func sign(t *testing.T, r *http.Request, hash string, at time.Time) {
	t.Helper()
	who := sdk.Credentials{AccessKeyID: account.DefaultKey, SecretAccessKey: account.DefaultSecret}
	if err := v4.NewSigner().SignHTTP(t.Context(), who, r, hash, "ec2", account.Region, at); err != nil {
		t.Fatal(err)
	}
}

func strip(r *http.Request, header string) {
	r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), header, "", 1))
}

func cut(r *http.Request, from string) {
	before, _, _ := strings.Cut(r.Header.Get("Authorization"), from)
	r.Header.Set("Authorization", before)
}

func answer(t *testing.T, r *http.Request) string {
	t.Helper()
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := res.Write(&b); err != nil {
		t.Fatal(err)
	}
	if err := res.Body.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestEnvironment uses nothing but the SDK's own environment.
func TestEnvironment(t *testing.T) {
	c := start(t)
	for k, v := range c.aws.Endpoints(c.url) {
		t.Setenv(k, v)
	}
	t.Setenv("AWS_REGION", account.Region)
	t.Setenv("AWS_ACCESS_KEY_ID", account.DefaultKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", account.DefaultSecret)
	t.Setenv("AWS_CONFIG_FILE", "/nonexistent")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
	cfg := must(config.LoadDefaultConfig(t.Context()))(t)
	who := must(sts.NewFromConfig(cfg).GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{}))(t)
	if *who.Account != account.AccountID || *who.Arn != "arn:aws:iam::123456789012:user/devcloud" {
		t.Errorf("caller %s %s", *who.Account, *who.Arn)
	}
	client := ec2.NewFromConfig(cfg)
	all := must(client.DescribeAvailabilityZones(t.Context(), &ec2.DescribeAvailabilityZonesInput{}))(t)
	if len(all.AvailabilityZones) != 3 || *all.AvailabilityZones[0].ZoneName != "eu-central-1a" {
		t.Errorf("%d zones", len(all.AvailabilityZones))
	}
	regions := must(client.DescribeRegions(t.Context(), &ec2.DescribeRegionsInput{RegionNames: []string{account.Region}}))(t)
	if len(regions.Regions) != 1 {
		t.Errorf("%d regions", len(regions.Regions))
	}
	cfg.Credentials = credentials.NewStaticCredentialsProvider("AKIAOTHER", "x", "")
	cfg.Retryer = func() sdk.Retryer { return sdk.NopRetryer{} }
	_, err := sts.NewFromConfig(cfg).GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
	refused(t, err, "InvalidClientTokenId")
	_, err = ec2.NewFromConfig(cfg).CreateTags(t.Context(), &ec2.CreateTagsInput{Resources: []string{"i-1"}, Tags: []types.Tag{}})
	refused(t, err, "AuthFailure")
}
