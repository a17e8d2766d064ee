"""Runs compared: tables, plots and a page."""
