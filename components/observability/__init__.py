"""What the owner sees of the stack while it runs: metrics and a dashboard made of the logs, and mails.

Owns: everything that reads what the gateway writes down. Does not own: the lines themselves (`gateway.caddy.logging`,
`gateway.pilot.log`). Nothing here asks a lane or the gateway anything: what sleeps stays asleep.
"""

from components.observability.alerts import Alerts
from components.observability.observability import Observability

__all__ = ["Alerts", "Observability"]
