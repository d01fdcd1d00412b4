package talos

import "encoding/base64"

// kubeconfig is the part of Kubernetes' client configuration (v1, Config) that
// Ichor writes. This package does not need client-go for it.
type kubeconfig struct {
	APIVersion     string         `yaml:"apiVersion"`
	Kind           string         `yaml:"kind"`
	Clusters       []namedCluster `yaml:"clusters"`
	Users          []namedUser    `yaml:"users"`
	Contexts       []namedContext `yaml:"contexts"`
	CurrentContext string         `yaml:"current-context"`
}

type namedCluster struct {
	Name    string `yaml:"name"`
	Cluster struct {
		Server string `yaml:"server"`
		CA     string `yaml:"certificate-authority-data"`
	} `yaml:"cluster"`
}

type namedUser struct {
	Name string `yaml:"name"`
	User struct {
		Cert string `yaml:"client-certificate-data"`
		Key  string `yaml:"client-key-data"`
	} `yaml:"user"`
}

type namedContext struct {
	Name    string `yaml:"name"`
	Context struct {
		Cluster   string `yaml:"cluster"`
		User      string `yaml:"user"`
		Namespace string `yaml:"namespace"`
	} `yaml:"context"`
}

func newKubeconfig(cluster, endpoint string, ca, cert, key []byte) kubeconfig {
	user := "admin@" + cluster
	cfg := kubeconfig{
		APIVersion: "v1", Kind: "Config", CurrentContext: user,
		Clusters: []namedCluster{{Name: cluster}},
		Users:    []namedUser{{Name: user}},
		Contexts: []namedContext{{Name: user}},
	}
	cfg.Clusters[0].Cluster.Server = endpoint
	cfg.Clusters[0].Cluster.CA = base64.StdEncoding.EncodeToString(ca)
	cfg.Users[0].User.Cert = base64.StdEncoding.EncodeToString(cert)
	cfg.Users[0].User.Key = base64.StdEncoding.EncodeToString(key)
	cfg.Contexts[0].Context.Cluster = cluster
	cfg.Contexts[0].Context.User = user
	cfg.Contexts[0].Context.Namespace = "default"
	return cfg
}
