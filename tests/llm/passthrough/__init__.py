"""Tests of the pass-through routes."""
