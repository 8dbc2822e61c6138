"""Shared by all services: how one starts, stops, is healthy, logs, is measured and guarded."""
