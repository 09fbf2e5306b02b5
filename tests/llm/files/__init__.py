"""Tests of files and batches that providers keep."""
