package account

// Home is where instances of a cluster are, and what they may do.
type Home struct {
	VPC, Subnet, Zone string
	// Profile is the name of an instance profile. Without one, the metadata service
	// gives what runs there no credentials.
	Profile string
}

// Home returns where a running instance of a Kubernetes cluster is, if there is one
// then one that has an instance profile; false when the cluster has none here.
func (a *Account) Home(cluster string) (h Home, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, i := range a.instances.all() {
		if _, mine := a.tags[i.ID]["kubernetes.io/cluster/"+cluster]; !mine || i.State != Running {
			continue
		}
		at := a.shown(i)
		if !ok || at.Profile != "" {
			h, ok = Home{at.VPC, at.Subnet, at.Zone, at.Profile}, true
		}
		if h.Profile != "" {
			break
		}
	}
	return h, ok
}
