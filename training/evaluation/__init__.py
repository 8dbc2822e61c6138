"""What a model reaches: retrieval metrics, reports, the same through a running stack."""
