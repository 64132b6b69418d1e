"""The tailnet: its policy, how the gateway joins, who else may."""
