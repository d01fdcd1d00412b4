// Package sts answers who the caller is, which is all that the account needs of
// the security token service.
package sts

import (
	"context"
	"log/slog"

	"github.com/ichor-project/ichor/testsuite/devcloud/aws/account"
	"github.com/ichor-project/ichor/testsuite/devcloud/aws/query"
)

type identity struct {
	ARN     string `xml:"Arn"`
	UserID  string `xml:"UserId"`
	Account string `xml:"Account"`
}

// New returns a server for an account.
func New(a *account.Account, log *slog.Logger) *query.Server {
	return &query.Server{
		Protocol: query.Query, Version: "2011-06-15", Namespace: "https://sts.amazonaws.com/doc/2011-06-15/", Log: log,
		Actions: map[string]query.Action{
			"GetCallerIdentity": query.On(func(context.Context, struct{}) (identity, error) {
				return identity{"arn:aws:iam::" + a.ID() + ":user/devcloud", "AIDADEVCLOUDEXAMPLE00", a.ID()}, nil
			}),
		},
	}
}
