"""The declared Caddy and pilot against real programs, without a lab."""
