"""Passerby on Kubernetes, seen from outside through the cluster's API."""
