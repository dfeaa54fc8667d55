"""What the review page and the service share: guarded requests, errors as JSON, tokens, and serving until Ctrl-C."""
