package store

import (
	"context"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	gcaws "gocloud.dev/aws"
	"gocloud.dev/blob"
	"gocloud.dev/blob/s3blob"

	"github.com/ichor-project/ichor/internal/fault"
)

// Parameters of s3:// URLs that are read here.
const (
	paramPrefix    = "prefix"
	paramEndpoint  = "endpoint"
	paramPathStyle = "use_path_style"
	paramSSE       = "ssetype"
	paramSSEKey    = "kmskeyid"
)

// sdkParams are the parameters that gocloud.dev/aws reads.
var sdkParams = []string{
	"region", "profile", "role", "anonymous", "dualstack", "fips",
	"rate_limiter_capacity", paramRequestSums, paramResponseSums,
}

const (
	paramRequestSums  = "request_checksum_calculation"
	paramResponseSums = "response_checksum_validation"
)

// endpointRegion is what requests to an endpoint of one's own are signed for
// when nothing says a region. Such services accept any, or this one: it is the
// default of S3 itself.
const endpointRegion = "us-east-1"

const opOpen = "open the store"

// openS3 opens an S3 bucket, or one of a service that speaks S3.
func openS3(ctx context.Context, u *url.URL) (backend, error) {
	p, err := parseS3(u)
	if err != nil {
		return nil, err
	}
	cfg, err := gcaws.V2ConfigFromURLParams(ctx, p.sdk)
	if err != nil {
		// The parameters may hold credentials, and the error repeats them.
		return nil, fault.New(fault.Invalid, opOpen, "the parameters of the s3:// URL, or the configuration of the AWS SDK, are wrong")
	}
	env, err := config.NewEnvConfig()
	if err != nil {
		return nil, fault.New(fault.Invalid, opOpen, "the environment variables of the AWS SDK are wrong")
	}
	client := s3.NewFromConfig(cfg, func(o *s3.Options) {
		o.UsePathStyle = p.pathStyle
		// The retryer of gocloud.dev/aws does not look at AWS_MAX_ATTEMPTS.
		o.RetryMaxAttempts = env.RetryMaxAttempts
		if p.endpoint != "" {
			o.BaseEndpoint = aws.String(p.endpoint)
		}
		if o.BaseEndpoint != nil && o.Region == "" {
			o.Region = endpointRegion
		}
	})
	if client.Options().Region == "" {
		return nil, fault.New(fault.Invalid, opOpen, "no region is set; add ?region=… to the s3:// URL or set AWS_REGION")
	}
	if err := credentials(ctx, cfg); err != nil {
		return nil, err
	}
	b, err := s3blob.OpenBucket(ctx, client, u.Host, &s3blob.Options{
		EncryptionType:  p.encryption,
		KMSEncryptionID: p.encryptionKey,
		// The uploader does not take this from the client.
		RequestChecksumCalculation: cfg.RequestChecksumCalculation,
	})
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, opOpen, err)
	}
	if p.prefix != "" {
		b = blob.PrefixedBucket(b, p.prefix)
	}
	return &bucket{b: b, fault: s3Fault}, nil
}

// credentials asks for them once, so that a process without any says so, and
// does not look like one whose object store is down.
func credentials(ctx context.Context, cfg aws.Config) error {
	if cfg.Credentials == nil || aws.IsCredentialsProvider(cfg.Credentials, aws.AnonymousCredentials{}) {
		return nil
	}
	if _, err := cfg.Credentials.Retrieve(ctx); err != nil {
		return fault.New(fault.Unauthorized, opOpen, "there are no credentials for the object store; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or a role of this machine: %v", err)
	}
	return nil
}

// s3Params are the parameters of an s3:// URL.
type s3Params struct {
	prefix, endpoint, encryptionKey string
	pathStyle                       bool
	encryption                      types.ServerSideEncryption
	sdk                             url.Values
}

// parseS3 reads an s3:// URL. Its errors name parameters, never their values.
func parseS3(u *url.URL) (s3Params, error) {
	// Path style works with S3 itself and with every service that speaks it,
	// most of which have no DNS names for their buckets.
	p := s3Params{pathStyle: true, sdk: url.Values{
		// Checksums in trailers, the default of newer SDKs, are refused by many
		// services that speak S3 (go-cloud issue 3634, aws-sdk-go-v2 discussion
		// 2960). Objects are sealed and compared with their SHA-256 here.
		paramRequestSums:  {"when_required"},
		paramResponseSums: {"when_required"},
	}}
	bad := func(format string, args ...any) (s3Params, error) {
		return p, fault.New(fault.Invalid, opOpen, format, args...)
	}
	if u.Host == "" || u.User != nil || strings.Trim(u.Path, "/") != "" {
		return bad("an object store is written s3://bucket?region=…; a folder in it is ?prefix=folder/, and credentials do not belong there")
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return bad("the parameters of the s3:// URL are not well-formed")
	}
	for name, values := range query {
		if len(values) != 1 {
			return bad("the parameter %s of the s3:// URL occurs twice", name)
		}
		value, ok := values[0], true
		switch {
		case name == paramPrefix:
			p.prefix, err = asFolder(value)
			ok = err == nil
		case name == paramEndpoint:
			p.endpoint, ok = value, isEndpoint(value)
		case name == paramPathStyle:
			p.pathStyle, err = strconv.ParseBool(value)
			ok = err == nil
		case name == paramSSE:
			p.encryption = types.ServerSideEncryption(value)
			ok = slices.Contains(p.encryption.Values(), p.encryption)
		case name == paramSSEKey:
			p.encryptionKey = value
		case slices.Contains(sdkParams, name):
			p.sdk.Set(name, value)
		default:
			return bad("the s3:// URL has a parameter that is not known; see docs/reference/store.md")
		}
		if !ok {
			return bad("the parameter %s of the s3:// URL has no valid value", name)
		}
	}
	return p, nil
}

func isEndpoint(text string) bool {
	e, err := url.Parse(text)
	return err == nil && (e.Scheme == "https" || e.Scheme == "http") && e.Host != "" &&
		e.User == nil && e.RawQuery == "" && e.Fragment == ""
}
