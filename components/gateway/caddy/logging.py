"""The log of Caddy, as a part of its JSON.

Owns: the fields of a line, and the lines that are left out. Does not own: the names that a request gets (`routes`),
what is told of a lane's answer (`begun`).
"""

from components.gateway.caddy.answers import Json


def logs(*, admin: bool) -> Json:
    """JSON lines on stderr, without headers and query strings: they may hold what a caller should not have sent."""
    encoder: Json = {
        "format": "filter",
        "wrap": {
            "format": "json",
            "time_format": "rfc3339_nano",
            # The names Cloud Logging looks for.
            "time_key": "time",
            "level_key": "severity",
            "message_key": "message",
        },
        "fields": {
            "request>headers": {"filter": "delete"},
            "resp_headers": {"filter": "delete"},
            "request>uri": {"filter": "regexp", "regexp": "[?#].*", "value": ""},
        },
    }
    lane_checks = "http.handlers.reverse_proxy.health_checker"
    base: Json = {"writer": {"output": "stderr"}, "encoder": encoder}
    quiet = ["http.log.access.checks", "http.log.error.checks", lane_checks]
    logs: Json = {
        "default": {**base, "exclude": quiet},
        # A lane that is down says so twice a second; one such line a minute is enough.
        "lanes": {
            **base,
            "include": [lane_checks],
            "sampling": {"interval": 60_000_000_000, "first": 2, "thereafter": 1_000_000},
        },
    }
    if admin:
        # The pilot asks several times a second, and Caddy would log every time.
        quiet.append("admin.api")
        logs["admin"] = {**base, "include": ["admin.api"], "level": "WARN"}
    return {"logs": logs}
