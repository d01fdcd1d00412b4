package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"

	"github.com/spf13/cobra"

	"github.com/ichor-project/ichor/internal/codec"
	"github.com/ichor-project/ichor/internal/secrets"
	"github.com/ichor-project/ichor/internal/secrets/resolve"
)

func newCodecServer(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "codec-server",
		Short: "Decrypt payloads for the Temporal UI and the temporal CLI",
		Long: `codec-server answers the Temporal UI and CLI of people who may see payloads in
clear. It uses the keys of --codec-keys. Without a token it only decodes, and only
on a loopback address.`,
		Args: cobra.NoArgs,
	}
	var o codec.ServerOptions
	c.Flags().StringVar(&o.Listen, "listen", codec.DefaultListen, "address to listen on")
	c.Flags().StringSliceVar(&o.Origins, "origin", codec.DefaultOrigins(), "pages that browsers may ask from")
	c.Flags().StringVar(&o.TLSCert, "tls-cert", "", "certificate, PEM file")
	c.Flags().StringVar(&o.TLSKey, "tls-key", "", "key of the certificate, PEM file")
	token := c.Flags().String("token", "", "reference to the bearer token that callers must send")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		r := resolve.New(resolve.Options{})
		refs := a.cfg.codecKeys()
		if len(refs) == 0 {
			return usageError{errors.New("codec-server needs --codec-keys")}
		}
		keys, err := codec.LoadKeys(cmd.Context(), r, refs)
		if err != nil {
			return err
		}
		o.Keys = keys
		if *token != "" {
			if o.Token, err = r.Resolve(cmd.Context(), secrets.Ref(*token)); err != nil {
				return err
			}
		}
		o.Logger = slog.New(slog.NewTextHandler(a.err, nil))
		o.Started = func(addr net.Addr) { fmt.Fprintf(a.err, "codec server on %s\n", addr) }
		return codec.Serve(cmd.Context(), o)
	}
	return c
}
