package main

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	kwatch "k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	toolswatch "k8s.io/client-go/tools/watch"
)

// follow takes note of every change of the workload's pods, in the order in which
// the API made them, so that what lies between two looks is seen, too. A stream
// that breaks off is resumed where it was.
func (w *watch) follow(ctx context.Context, api kubernetes.Interface) {
	for ctx.Err() == nil {
		w.changesOf(ctx, api)
		select {
		case <-ctx.Done():
		case <-time.After(interval):
		}
	}
}

// changesOf begins with the pods as they are and returns when the stream cannot be
// resumed. Errors are not counted: the looks do that.
func (w *watch) changesOf(ctx context.Context, api kubernetes.Interface) {
	pods := api.CoreV1().Pods("default")
	list, err := pods.List(ctx, metav1.ListOptions{LabelSelector: "app=" + workload})
	if err != nil {
		return
	}
	there := map[types.UID]bool{}
	for _, p := range list.Items {
		there[p.UID] = available(p)
	}
	w.changed(there)
	stream, err := toolswatch.NewRetryWatcherWithContext(ctx, list.ResourceVersion, &cache.ListWatch{
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (kwatch.Interface, error) {
			o.LabelSelector = "app=" + workload
			return pods.Watch(ctx, o)
		},
	})
	if err != nil {
		return
	}
	defer stream.Stop()
	for event := range stream.ResultChan() {
		p, ok := event.Object.(*corev1.Pod)
		if !ok {
			return
		}
		there[p.UID] = event.Type != kwatch.Deleted && available(*p)
		w.changed(there)
	}
}

func (w *watch) changed(there map[types.UID]bool) {
	n := 0
	for _, available := range there {
		if available {
			n++
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.changes++
	w.least(n)
}
