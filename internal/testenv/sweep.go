package testenv

import (
	"context"
	"time"

	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
)

// sweep removes servers that a killed test has left, which nothing else does.
// No test runs for half a day.
func sweep(ctx context.Context, docker *testcontainers.DockerProvider) {
	left, err := docker.Client().ContainerList(ctx, client.ContainerListOptions{
		All: true, Filters: make(client.Filters).Add("label", label),
	})
	if err != nil {
		return // the start that follows tells what is wrong
	}
	for _, c := range left.Items {
		if time.Since(time.Unix(c.Created, 0)) > 12*time.Hour {
			docker.Client().ContainerRemove(ctx, c.ID, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
		}
	}
}
