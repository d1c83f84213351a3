"""An identity provider (OpenID Connect) vouches for callers of the API and visitors of the pages."""
