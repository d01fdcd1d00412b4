package talosnode

// Names, labels and selectors are those of Talos, since objects keep them for
// life; what no kubelet of devcloud looks at is left out.

const tokenManifest = `apiVersion: v1
kind: Secret
metadata: {name: bootstrap-token-TOKEN_ID, namespace: kube-system}
type: bootstrap.kubernetes.io/token
stringData:
  token-id: TOKEN_ID
  token-secret: TOKEN_SECRET
  usage-bootstrap-authentication: "true"
  auth-extra-groups: system:bootstrappers:nodes
`

const csrManifest = `apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: system-bootstrap-node-bootstrapper}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: Group, name: "system:bootstrappers:nodes"}]
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "system:node-bootstrapper"}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: system-bootstrap-approve-node-client-csr}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: Group, name: "system:bootstrappers:nodes"}]
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "system:certificates.k8s.io:certificatesigningrequests:nodeclient"}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: system-bootstrap-node-renewal}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: Group, name: "system:nodes"}]
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient"}
`

const flannelManifest = `apiVersion: v1
kind: ServiceAccount
metadata: {name: flannel, namespace: kube-system, labels: {k8s-app: flannel}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: kube-flannel-cfg, namespace: kube-system, labels: {tier: node, k8s-app: flannel}}
data:
  net-conf.json: '{"Network": "POD_CIDR", "Backend": {"Type": "vxlan", "Port": 4789}}'
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: kube-flannel, namespace: kube-system, labels: {tier: node, k8s-app: flannel}}
spec:
  selector: {matchLabels: {tier: node, k8s-app: flannel}}
  template:
    metadata: {labels: {tier: node, k8s-app: flannel}}
    spec:
      hostNetwork: true
      priorityClassName: system-node-critical
      serviceAccountName: flannel
      tolerations:
      - {operator: Exists, effect: NoSchedule}
      - {operator: Exists, effect: NoExecute}
      containers:
      - name: kube-flannel
        image: FLANNEL_IMAGE
        volumeMounts: [{name: cni, mountPath: /etc/cni/net.d}]
      volumes:
      - name: cni
        hostPath: {path: /etc/cni/net.d}
`

const proxyManifest = `apiVersion: v1
kind: ServiceAccount
metadata: {name: kube-proxy, namespace: kube-system}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: kube-proxy, namespace: kube-system, labels: {tier: node, k8s-app: kube-proxy}}
spec:
  selector: {matchLabels: {tier: node, k8s-app: kube-proxy}}
  updateStrategy: {type: RollingUpdate, rollingUpdate: {maxUnavailable: 1}}
  template:
    metadata: {labels: {tier: node, k8s-app: kube-proxy}}
    spec:
      hostNetwork: true
      priorityClassName: system-cluster-critical
      serviceAccountName: kube-proxy
      tolerations:
      - {operator: Exists, effect: NoSchedule}
      - {operator: Exists, effect: NoExecute}
      containers:
      - name: kube-proxy
        image: PROXY_IMAGE
        command: [/usr/local/bin/kube-proxy, --cluster-cidr=POD_CIDR, --proxy-mode=nftables]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: kube-proxy}
subjects: [{kind: ServiceAccount, name: kube-proxy, namespace: kube-system}]
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "system:node-proxier"}
`

const coreDNSManifest = `apiVersion: v1
kind: ServiceAccount
metadata: {name: coredns, namespace: kube-system}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: coredns, namespace: kube-system}
data: {Corefile: ".:53 { errors }\n"}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: coredns, namespace: kube-system, labels: {k8s-app: kube-dns, kubernetes.io/name: CoreDNS}}
spec:
  replicas: 2
  strategy: {type: RollingUpdate, rollingUpdate: {maxUnavailable: 1}}
  selector: {matchLabels: {k8s-app: kube-dns}}
  template:
    metadata: {labels: {k8s-app: kube-dns}}
    spec:
      serviceAccountName: coredns
      priorityClassName: system-cluster-critical
      tolerations:
      - {key: node-role.kubernetes.io/control-plane, operator: Exists, effect: NoSchedule}
      - {key: node.cloudprovider.kubernetes.io/uninitialized, operator: Exists, effect: NoSchedule}
      containers:
      - name: coredns
        image: DNS_IMAGE
        args: [-conf, /etc/coredns/Corefile]
        resources: {requests: {cpu: 100m, memory: 70Mi}, limits: {memory: 170Mi}}
        volumeMounts: [{name: config-volume, mountPath: /etc/coredns, readOnly: true}]
      volumes:
      - name: config-volume
        configMap: {name: coredns, items: [{key: Corefile, path: Corefile}]}
`

const coreDNSServiceManifest = `apiVersion: v1
kind: Service
metadata: {name: kube-dns, namespace: kube-system, labels: {k8s-app: kube-dns, kubernetes.io/cluster-service: "true", kubernetes.io/name: CoreDNS}}
spec:
  selector: {k8s-app: kube-dns}
  clusterIP: DNS_ADDRESS
  clusterIPs: [DNS_ADDRESS]
  ports:
  - {name: dns, port: 53, protocol: UDP, targetPort: 53}
  - {name: dns-tcp, port: 53, protocol: TCP, targetPort: 53}
`

const kubeconfigManifest = `apiVersion: v1
kind: ConfigMap
metadata: {name: kubeconfig-in-cluster, namespace: kube-system}
data: {kubeconfig: "server: ENDPOINT\n"}
`
