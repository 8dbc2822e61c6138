"""The query service over HTTP: JSON routes, the page, kept images, and the guards before them."""
