"""Shared by indexer and query: the Milvus collections and the names in Redis."""
