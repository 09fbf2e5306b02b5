"""Tests of answers that are kept and given again."""
