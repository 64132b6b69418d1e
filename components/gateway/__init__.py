"""The public endpoint: one Cloud Run service of official images, stock Caddy and configuration."""
