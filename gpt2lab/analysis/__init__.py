"""Runs, looked at afterwards."""
