"""Puts load on a running lab and judges it."""
