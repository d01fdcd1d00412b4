package account

import (
	"maps"
	"slices"
	"time"
)

// What the one account and region are called.
const (
	AccountID = "123456789012"
	Region    = "eu-central-1"
)

// Latencies are simulated durations; the clock's speed divides them. The
// defaults are what small instances usually show.
type Latencies struct {
	API       time.Duration `json:"api"`       // every API call
	Launch    time.Duration `json:"launch"`    // RunInstances until running
	Start     time.Duration `json:"start"`     // StartInstances until running
	Stop      time.Duration `json:"stop"`      // StopInstances until stopped
	Terminate time.Duration `json:"terminate"` // TerminateInstances until terminated
	Retention time.Duration `json:"retention"` // for how long a terminated instance is shown
	Register  time.Duration `json:"register"`  // RegisterImage until available
	Snapshot  time.Duration `json:"snapshot"`  // CompleteSnapshot until completed
}

// DefaultLatencies returns the latencies used when none are given.
func DefaultLatencies() Latencies {
	return Latencies{
		API: 120 * time.Millisecond, Launch: 15 * time.Second, Start: 15 * time.Second, Stop: 20 * time.Second,
		Terminate: 25 * time.Second, Retention: time.Hour, Register: 5 * time.Second, Snapshot: 5 * time.Second,
	}
}

// Settings are limits and defects of the account, which may change at any time.
// They replace each other as a whole.
type Settings struct {
	// Visibility is how long (simulated) a new resource is not there for an
	// action: it answers ….NotFound by id and is missing in lists. Keys are
	// actions of EC2; "Describe*" stands for all that read, "*" for all. An
	// exact name wins.
	Visibility map[string]Duration `json:"visibility"`
	// VCPUs is the quota of On-Demand instances by bucket ("standard" for types
	// that begin with A, C, D, H, I, M, R, T or Z, "g" for G and VT), SpotVCPUs
	// that of Spot instances. A missing bucket has no limit.
	VCPUs     map[string]int `json:"vcpus"`
	SpotVCPUs map[string]int `json:"spotVcpus"`
	// Capacity is how many more instances can be launched or started, by
	// "type@zone" or "type"; what is missing is unlimited. It counts down.
	Capacity map[string]int `json:"capacity"`
	// VPCs and RulesPerGroup are quotas; zero means unlimited.
	VPCs          int `json:"vpcs"`
	RulesPerGroup int `json:"rulesPerGroup"`
	// MissingProfiles are instance profiles that EC2 does not know (yet).
	MissingProfiles []string `json:"missingProfiles"`
	// PageLimit bounds pages; a request may ask for less.
	PageLimit int `json:"pageLimit"`
	// Denied are actions that the caller's policy forbids.
	Denied []string `json:"denied"`
	// Keys maps access keys to secrets; a session token, if any, follows the
	// secret after a colon. Empty means DefaultKey only.
	Keys map[string]string `json:"keys"`
}

// DefaultKey and DefaultSecret open the account. They protect nothing.
const (
	DefaultKey    = "AKIADEVCLOUDEXAMPLE0"
	DefaultSecret = "devcloud/opens/for/everybody/on/loopback"
)

// DefaultSettings are those of a usual account.
func DefaultSettings() Settings {
	return Settings{
		Visibility: map[string]Duration{
			"Describe*": Duration(time.Second), "DescribeInstances": Duration(2 * time.Second),
			"CreateTags": Duration(time.Second), "TerminateInstances": Duration(time.Second),
		},
		VCPUs: map[string]int{"standard": 1920, "g": 64}, SpotVCPUs: map[string]int{"standard": 640, "g": 64},
		VPCs: 50, RulesPerGroup: 60, PageLimit: 1000,
	}
}

// Duration marshals as text, like "90s".
type Duration time.Duration

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	*d = Duration(v)
	return err
}

// Settings returns the current settings.
func (a *Account) Settings() Settings {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.settings.clone()
}

// SetSettings replaces all settings.
func (a *Account) SetSettings(s Settings) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.settings = s.clone()
}

func (s Settings) clone() Settings {
	s.Visibility, s.VCPUs, s.SpotVCPUs = maps.Clone(s.Visibility), maps.Clone(s.VCPUs), maps.Clone(s.SpotVCPUs)
	s.Capacity, s.Keys = maps.Clone(s.Capacity), maps.Clone(s.Keys)
	s.MissingProfiles, s.Denied = slices.Clone(s.MissingProfiles), slices.Clone(s.Denied)
	return s
}

// Secret returns the secret and the session token of an access key.
func (a *Account) Secret(key string) (secret, session string, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.settings.Keys) == 0 {
		return DefaultSecret, "", key == DefaultKey
	}
	both, ok := a.settings.Keys[key]
	for i := range len(both) {
		if both[i] == ':' {
			return both[:i], both[i+1:], ok
		}
	}
	return both, "", ok
}

// Denies says whether policy forbids an action.
func (a *Account) Denies(action string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Contains(a.settings.Denied, action)
}
