"""Tests of where calls go."""
