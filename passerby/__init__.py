"""Passerby: find people in millions of pedestrian images by describing them."""
