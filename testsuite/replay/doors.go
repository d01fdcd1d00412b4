package replay

// Doors are the secrets that are planted while histories are recorded, by the
// door through which they enter. They are constants, so that histories can be
// scanned for them at any time; none opens anything.
var Doors = map[string]string{
	"the credentials":                "recorded-canary-credentials",
	"the credentials' session token": "recorded-canary-session-token",
	"a secret from the environment":  "recorded-canary-environment",
	"an inline patch":                "recorded-canary-inline-patch",
	"an inline manifest":             "recorded-canary-inline-manifest",
	"any private key":                "PRIVATE KEY-----",
}
