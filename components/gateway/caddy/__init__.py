"""Caddy's configuration as data."""
