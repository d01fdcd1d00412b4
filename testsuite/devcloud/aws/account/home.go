package account

// Home is where an instance is.
type Home struct{ VPC, Subnet, Zone string }

// Home returns where a running instance of a Kubernetes cluster is; false when the
// cluster has none here.
func (a *Account) Home(cluster string) (Home, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, i := range a.instances.all() {
		if _, ok := a.tags[i.ID]["kubernetes.io/cluster/"+cluster]; ok && i.State == Running {
			at := a.shown(i)
			return Home{at.VPC, at.Subnet, at.Zone}, true
		}
	}
	return Home{}, false
}
