"""proto/ -> the OpenAPI document of the HTTP API, for `make proto`; the service only serves it."""
