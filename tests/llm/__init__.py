"""Tests of the data plane, most of them over real sockets against a worker process."""
