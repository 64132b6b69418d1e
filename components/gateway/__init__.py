"""The public endpoint: one Cloud Run service of official images, stock Caddy and configuration.

Owns: the service with its identity and secrets (`service`); Caddy's configuration, which is a request's whole journey
(`caddy`); the page for people (`console`); the tunnel to home (`tunnel`); the pilot's program (`pilot`) and its
container (`pilot_container`). Does not own: the lanes behind it, the clients' keys (`clients`), the tailnet's policy
(`tailnet`).
"""
