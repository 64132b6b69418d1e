"""The bootstrap script and what it leaves at home, run in namespaces of their own."""
