"""`quarterdeck demo`: a control plane, two workers and a sample provider as separate processes on this machine."""
