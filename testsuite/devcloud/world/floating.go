package world

import "net/netip"

// FloatingIP is an address that can be moved between servers and load
// balancers. It is keyed by its address.
type FloatingIP struct {
	Meta
	Prefix       netip.Prefix
	Type         string // "regional" or "global"
	Region       string // empty for global ones
	Server       string
	LoadBalancer string
	NextHop      string
	ReversePtr   string
}

// ObjectsUser owns S3 credentials.
type ObjectsUser struct {
	Meta
	AccessKey, SecretKey string
}
