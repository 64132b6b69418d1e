"""The program under the real Pulumi engine, with providers that accept anything."""
