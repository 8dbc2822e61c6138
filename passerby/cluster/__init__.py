"""A release on Kubernetes, seen from outside through the cluster's API."""
