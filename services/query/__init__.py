"""Finds images by caption, image or filename, over gRPC, HTTP and a page."""
