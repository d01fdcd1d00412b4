package main

import "strings"

// text is what the page says of measurements on one cloud.
type text struct {
	section, title, about string
	// beside is what else runs on each control plane node; remarks are further
	// lines, each with an end.
	beside, remarks string
	// extra are further tables, for which it has the rest of the page.
	extra  func(b *strings.Builder, page string, all []series)
	method string
}

var cloudscaleText = text{
	section: "provisioning", title: "Provisioning and deletion",
	about:  "What Ichor adds to the time that the cloud itself needs, and what a cluster costs in Temporal and in API calls.",
	method: methodOnCloudscale,
}

var awsText = text{
	section: "aws", title: "Provisioning and deletion on AWS",
	about:  "The same on devcloud's AWS: clusters over three zones, with a network load balancer and AWS' own cloud controller.",
	beside: " and AWS' cloud controller",
	remarks: `- The cloud controller is the vendor's released program. Nothing of it is divided by the speed: neither what it computes
  nor the tenth of a second for which it gathers questions. It belongs to the critical path, as it would on AWS.
`,
	extra: awsTables, method: methodOnAWS,
}

const methodOnCloudscale = `### Method

The critical path is what no orchestrator could avoid, each part as long as it took in the same run:

1. the import of the image (request to image), or the creation of network, subnet, load balancer, pool, listener and
   monitor in a row with the time until the load balancer runs, whichever is longer;
2. control planes: one create of a placement group and the creates of one shard in a row, as the cloud requires (at most
   four), then the longest time from created to running;
3. the longest boot of a control plane, from running until its console says that it runs Talos;
4. from the bootstrap of etcd (console) until ` + "`/readyz`" + ` answers through the load balancer;
5. workers: creates as in 2, then the longest time from created until the node is Ready, has its provider ID and has lost
   the ` + "`uninitialized`" + ` taint.

Server, image and load balancer times are those of devcloud's own timeline. Consoles, ` + "`/readyz`" + ` and nodes are watched by
the judge, every 100 ms or by a watch. Wall time is from start to close of the ` + "`ProvisionCluster`" + ` workflow. For a deletion
the path is: the longest deletion of a machine (request to gone, all at once), the load balancer's, and one call each for
network and image; wall time is that of ` + "`DeleteCluster`" + `.
`

const methodOnAWS = `### Method

As on cloudscale.ch, with these parts of the critical path:

1. one call each of CreateVpc, CreateSubnet and CreateLoadBalancer, which need each other. What else the network has could
   be made meanwhile, and no image is imported: Talos publishes it;
2. control planes: one CreatePlacementGroup and one RunInstances, since launches need not wait for each other, then the
   longest time from launched to running;
3. the longest boot of a control plane, as there;
4. from the bootstrap of etcd until ` + "`/readyz`" + ` answers at a control plane; then what is left of the time that the load
   balancer needs to become active: it does so while the machines boot, since its name is known at once;
5. workers: calls as in 2, then the longest time from launched until the node is Ready, has its provider ID and has lost
   the ` + "`uninitialized`" + ` taint.

Times of instances and of the load balancer are those of devcloud's own timeline. For a deletion the path is: the longest
end of an instance (TerminateInstances to terminated, all at once), the load balancer's until its interfaces are gone,
without which no subnet can go, and one call each of DeleteSubnet and DeleteVpc.
`

const accounting = `
Events, bytes and actions are counted in the histories of all workflows that took part. Actions follow
<https://docs.temporal.io/cloud/actions>: every start of a workflow (client, child, continue-as-new), attempt of an
activity, timer, signal, update and upsert; heartbeats are those that the worker really sent. Watching a run with
` + "`ichor provision`" + ` or ` + "`ichor watch`" + ` adds two queries, hence two actions, per second and is left out. API calls are the
product's own; those of the cluster's cloud controller are left out.
`
