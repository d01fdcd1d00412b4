// Package standalone lets somebody who built a cluster by other means scale its
// workers with Ichor. One file describes the node groups; the provider turns it
// into entities when it starts (ScaleNodeGroup), which take existing servers
// over and from then on own them.
//
// The file has the shape that other providers of the autoscaler for
// cloudscale.ch use; files of kubeterm-sh/autoscaler-cloudscale are understood
// as they are. Nothing secret of the file reaches Temporal: credentials and
// kubeconfig are references, and user data goes to the encrypted store.
package standalone
