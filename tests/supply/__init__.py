"""What the project is made of: the audit of the locked packages (`audit`), and the bill of materials (`sbom`).

Owns: both commands, and the holes that are accepted for a while (accepted.toml). Does not own: the locks (`make lock`).
"""
