// Command protoc generates Go code from .proto files without the C++ compiler
// of that name: protocompile reads the files, and the two plugins of this module
// write the code. Usage:
//
//	protoc -plugins DIR [-check] FILE.proto ...
//
// Files are named relative to the working folder, which is also the import path;
// generated code lands beside them. With -check nothing is written: what differs
// is an error.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/bufbuild/protocompile"
	"github.com/bufbuild/protocompile/protoutil"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/pluginpb"
)

// plugins write next to the source, whatever the Go package is called.
var plugins = map[string]string{
	"protoc-gen-go":      "paths=source_relative",
	"protoc-gen-go-grpc": "paths=source_relative",
}

func main() {
	dir := flag.String("plugins", "", "folder of the plugins")
	check := flag.Bool("check", false, "compare instead of writing")
	flag.Parse()
	if err := run(context.Background(), *dir, *check, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "protoc:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, dir string, check bool, files []string) error {
	req, err := compile(ctx, files)
	if err != nil {
		return err
	}
	var errs []error
	for name, parameter := range plugins {
		req.Parameter = &parameter
		out, err := generate(ctx, filepath.Join(dir, name), req)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		for _, f := range out {
			if !check {
				errs = append(errs, os.WriteFile(f.GetName(), []byte(f.GetContent()), 0o644))
				continue
			}
			if have, err := os.ReadFile(f.GetName()); err != nil || !bytes.Equal(have, []byte(f.GetContent())) {
				errs = append(errs, fmt.Errorf("%s is not what its .proto says: run make generate", f.GetName()))
			}
		}
	}
	return errors.Join(errs...)
}

// compile reads the files and everything that they import, imports first.
func compile(ctx context.Context, files []string) (*pluginpb.CodeGeneratorRequest, error) {
	compiler := protocompile.Compiler{
		Resolver:       protocompile.WithStandardImports(&protocompile.SourceResolver{}),
		SourceInfoMode: protocompile.SourceInfoStandard,
	}
	compiled, err := compiler.Compile(ctx, files...)
	if err != nil {
		return nil, err
	}
	req := &pluginpb.CodeGeneratorRequest{FileToGenerate: files}
	seen := map[string]bool{}
	var add func(protoreflect.FileDescriptor)
	add = func(f protoreflect.FileDescriptor) {
		if seen[f.Path()] {
			return
		}
		seen[f.Path()] = true
		for i := range f.Imports().Len() {
			add(f.Imports().Get(i).FileDescriptor)
		}
		req.ProtoFile = append(req.ProtoFile, protoutil.ProtoFromFileDescriptor(f))
	}
	for _, f := range compiled {
		add(f)
	}
	return req, nil
}

func generate(ctx context.Context, plugin string, req *pluginpb.CodeGeneratorRequest) ([]*pluginpb.CodeGeneratorResponse_File, error) {
	in, err := proto.Marshal(req)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, plugin)
	cmd.Stdin, cmd.Stderr = bytes.NewReader(in), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, err
	}
	var resp pluginpb.CodeGeneratorResponse
	if err := proto.Unmarshal(out, &resp); err != nil {
		return nil, err
	}
	if resp.Error != nil {
		return nil, errors.New(resp.GetError())
	}
	return resp.GetFile(), nil
}
