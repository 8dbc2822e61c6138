"""Shared by indexer and query: the vectors in Milvus, the names in Redis, the images kept aside."""
